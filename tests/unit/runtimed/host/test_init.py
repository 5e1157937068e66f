"""Which program ``--init`` puts in front of a command."""

from pathlib import Path

import pytest

from runtimed.host.info import check_labels, find_init
from sampan.errors import InvalidArgumentError


def program(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


@pytest.fixture(autouse=True)
def empty_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_it_is_found_without_a_path(tmp_path: Path) -> None:
    assert find_init(directories=[str(tmp_path)]) is None
    tini = program(tmp_path / "tini-static")
    assert find_init(directories=[str(tmp_path)]) == tini
    own = program(tmp_path / "docker-init")
    assert find_init(directories=[str(tmp_path)]) == own


def test_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "usual" / "docker-init")
    wanted = program(tmp_path / "mine" / "docker-init")
    monkeypatch.setenv("PATH", str(tmp_path / "mine"))
    assert find_init(directories=[str(tmp_path / "usual")]) == wanted


@pytest.mark.parametrize("mode", [0o644, None])
def test_one_that_is_configured_and_cannot_be_run_is_none(tmp_path: Path, mode: int | None) -> None:
    program(tmp_path / "docker-init")
    configured = tmp_path / "own"
    if mode is not None:
        program(configured, mode)
    assert find_init(str(configured), [str(tmp_path)]) is None
    assert find_init(program(configured), [str(tmp_path)]) == str(configured)


def test_labels_of_the_engine_are_names_with_values_each_once() -> None:
    assert check_labels(("a=1", "b=2=3", "a=1")) == ("a=1", "b=2=3")
    for texts in (("a",), ("=1",), ("a=",), ("a=1", "a=2")):
        with pytest.raises(InvalidArgumentError, match=r"^labels: "):
            check_labels(texts)
