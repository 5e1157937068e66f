import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampan_cli.app import table
from sampan_cli.warm import thin


@pytest.mark.parametrize(
    ("line", "root", "command"),
    [
        ("ps -a", "", "ps"),
        ("--run-root /r ps", "/r", "ps"),
        ("--data-root=/d --run-root=/r container ls", "/r", "ls"),
        ("network inspect bridge", "", "inspect"),
        ("--run-root /r run -it busybox", "/r", "run"),
    ],
)
def test_commands_that_are_handed_over(line: str, root: str, command: str) -> None:
    found, words = thin._look_at(line.split())
    assert (found, words[0]) == (root, command)


@pytest.mark.parametrize(
    "line",
    ["", "up", "down", "login", "system prune", "container prune", "image build", "build .", "--help", "-v ps",
     "container", "--run-root", "nonsense", "builder prune", "context ls", "-c other ps",
     "-H ssh://root@elsewhere ps", "--tls ps", "--config /c ps"],
)  # fmt: skip
def test_commands_that_are_not(line: str) -> None:
    assert not thin._look_at(line.split())[1]


@pytest.mark.parametrize(
    ("variables", "config", "elsewhere"),
    [
        ({}, None, False),
        ({}, "{}", False),
        ({}, '{"currentContext": "far"}', True),
        ({"SAMPAN_RUN_ROOT": "/r"}, '{"currentContext": "far"}', False),
        ({"SAMPAN_RUN_ROOT": "/r", "DOCKER_CONTEXT": "far"}, None, True),
        ({"SAMPAN_RUN_ROOT": "/r", "SAMPAN_HOST": "tcp://far"}, None, False),
        ({"SAMPAN_HOST": "tcp://far"}, None, True),
    ],
)
def test_an_engine_that_may_be_elsewhere(
    variables: dict[str, str], config: str | None, elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOCKER_CONTEXT", "SAMPAN_HOST", "SAMPAN_RUN_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert thin._may_lead_elsewhere(False) is elsewhere
    assert thin._may_lead_elsewhere(True) is ("DOCKER_CONTEXT" in variables)


def test_what_is_handed_over_exists() -> None:
    groups = {name: vars(table)[name.upper()] for name in thin._GROUPS}
    assert set(table.ROOT) >= thin._GROUPS
    for name in thin._OF_GROUPS:
        assert name in table.ROOT or any(name in group for group in groups.values()), name
    assert set(table.ROOT) >= thin._COMMANDS


@pytest.mark.parametrize("word", ["-it", "-i", "-ti", "--tty", "--interactive=true", "-dit", "-a", "--attach=stdin"])
def test_words_that_may_ask_for_the_terminal(word: str) -> None:
    assert thin._may_ask(word)


@pytest.mark.parametrize("word", ["-d", "-p", "--rm", "busybox", "--name", "it"])
def test_words_that_do_not(word: str) -> None:
    assert not thin._may_ask(word)


def test_it_imports_next_to_nothing() -> None:
    code = "import sys; sys.path += sys.argv[1:]; import sampan_cli.warm.thin; print(*sorted(sys.modules))"
    cli = str(Path(thin.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-PS", "-c", code, cli], check=True, capture_output=True, text=True, env={"LANG": "C.UTF-8"}
    )
    heavy = {"enum", "socket", "signal", "re", "pathlib", "click", "grpc", "typing", "subprocess", "struct", "site"}
    assert not heavy & set(done.stdout.split())


def test_nobody_there_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(thin, "_must_run_here", lambda: False)
    thin.hand_over(["--run-root", str(tmp_path), "ps"])
    assert set(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may go meanwhile
