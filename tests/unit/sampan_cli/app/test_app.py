"""The command line as a whole, without an engine."""

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sampan.layout import Layout
from sampan.services import STARTED
from sampan.version import VERSION
from sampan_cli.app import table
from sampan_cli.app.app import app
from sampan_cli.app.lazy import Entry, LazyGroup, SampanCommand
from sampan_cli.app.session import Session


def invoke(*arguments: str, run_root: Path = Path("/nowhere/run")) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="sampan", obj=Session(Layout(Path("/nowhere/data"), run_root)))


def commands(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.entries:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, LazyGroup):
            yield from commands(command, (*path, name))


EVERY_COMMAND = dict(commands(app))


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = invoke(*path, "--help")
    assert result.exit_code == 0, result.output
    command = EVERY_COMMAND[path]
    if isinstance(command, SampanCommand):
        assert command.examples, "help without an example"
        assert "Examples:" in result.output


def test_help_of_a_command_imports_no_grpc() -> None:
    code = (
        "import sys; from sampan_cli.app.app import app; "
        "app(['run', '--help'], standalone_mode=False, obj=None); "
        "sys.exit('grpc' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version_needs_no_click() -> None:
    code = (
        "import sys; sys.argv = ['sampan', '--version']; from sampan_cli.entry import main; main(); "
        "sys.exit('click' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == f"Sampan version {VERSION}\n"


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_roots_may_stand_before_and_after_the_subcommand() -> None:
    seen: list[Layout] = []

    @click.command(cls=SampanCommand)
    @click.pass_obj
    def probe(session: Session) -> None:
        seen.append(session.layout)

    group = LazyGroup("sampan", entries={"probe": Entry("probe", "")})
    group.get_command = lambda _ctx, _name: probe  # type: ignore[method-assign,assignment]
    for arguments in (
        ["--data-root", "/d", "--run-root", "/r", "probe"],
        ["probe", "--data-root", "/d", "--run-root", "/r"],
        ["--data-root", "/other", "probe", "--data-root", "/d", "--run-root", "/r"],
    ):
        CliRunner().invoke(group, arguments, obj=Session(Layout()), catch_exceptions=False)
    assert seen == [Layout(Path("/d"), Path("/r"))] * 3


def test_roots_come_from_the_environment_and_become_absolute() -> None:
    session = Session.from_environment({"SAMPAN_DATA_ROOT": "here", "SAMPAN_RUN_ROOT": "/r"})
    assert session.layout == Layout(Path.cwd() / "here", Path("/r"))
    assert Session.from_environment({}).layout == Layout()


def test_unknown_flag_has_dockers_exit_code() -> None:
    result = invoke("ps", "--nosuch")
    assert result.exit_code == 125
    assert "--nosuch" in result.output


@pytest.mark.parametrize(
    "arguments", [("pull",), ("create",), ("rename", "one"), ("ps", "one"), ("pull", "one", "two")]
)
def test_a_wrong_number_of_arguments_has_dockers_exit_code(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "argument" in result.output


def test_unknown_command_names_the_nearest() -> None:
    result = invoke("ran")
    assert result.exit_code == 1
    assert "'ran' is not a sampan command. Did you mean 'run'?" in result.output


def test_bad_value_of_a_flag_is_said_in_dockers_words() -> None:
    result = invoke("run", "--memory", "lots", "busybox")
    assert result.exit_code == 125
    assert 'invalid argument "lots" for "-m, --memory" flag: invalid size: \'lots\'' in result.output


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [(("ps",), 1), (("run", "busybox"), 125), (("stop", "a", "b"), 1), (("info",), 1)]
)
def test_without_an_engine_a_command_says_how_to_start_one(arguments: tuple[str, ...], exit_code: int) -> None:
    result = invoke(*arguments)
    assert result.exit_code == exit_code
    assert result.stderr == (
        "sampan: Cannot connect to the Sampan engine at /nowhere/run. Is it running? "
        "Start it with: sampan up --detach\n"
    )


def test_mistake_in_what_to_run_is_found_without_an_engine() -> None:
    for command in ("run", "create"):
        result = invoke(command, "-p", "x:80", "busybox")
        assert result.exit_code == 125
        assert result.stderr == 'sampan: invalid port specification: "x"\n'


def test_status_without_an_engine_lists_every_service_as_not_running() -> None:
    result = invoke("status", "--format", "{{.Service}} {{.Pid}} {{.Healthy}}")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [f"{name} - no" for name in STARTED]


def test_down_without_an_engine_is_no_failure() -> None:
    result = invoke("down")
    assert result.exit_code == 0
    assert result.stderr == "sampan: no engine is running on /nowhere/run\n"


def test_prune_asks_and_takes_no_for_an_answer() -> None:
    result = CliRunner().invoke(app, ["container", "prune"], input="n\n", obj=Session(Layout()))
    assert result.exit_code == 1
    assert "WARNING! This will remove all stopped containers." in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_SAMPAN_COMPLETE" in result.output


def test_completion_of_a_command_imports_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert isinstance(app, LazyGroup)
    items = app.shell_complete(click.Context(app), "st")
    assert [item.value for item in items] == ["start", "stop", "stats", "status"]


def test_table_names_modules_that_exist() -> None:
    groups = (table.ROOT, table.CONTAINER, table.IMAGE, table.NETWORK, table.VOLUME, table.SYSTEM)
    for place in {entry.place for group in groups for entry in group.values()}:
        module, _, name = place.partition(":")
        assert isinstance(
            getattr(importlib.import_module(f"sampan_cli.commands.{module}"), name or "command"), click.Command
        )
