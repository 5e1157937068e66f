"""Preparations that end early: whatever was begun is waited for before its files are removed, and its pipe closed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runtimed.conmon.conmon import Conmon
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.memory_store import Entry
from runtimed.containers.paths import Paths
from runtimed.execs import prepared
from runtimed.execs.prepared import Preparer
from runtimed.lifecycle.runner import Runner
from runtimed.protocol import Bundles
from sampan.errors import ConflictError, InvalidArgumentError, StartError
from sampan.resource.container import Container, ContainerState
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.exec import ExecSpec

ENTRY = cast(
    "Entry",
    SimpleNamespace(
        id="c" * 64,
        container=Container("c" * 64, ContainerSpec(), datetime(2026, 1, 1, tzinfo=UTC), ContainerState(pid=1)),
    ),
)
ID = "e" * 64


class SlowConmon:
    """A conmon that has been started and has not yet reported."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.reports = asyncio.Event()
        self.happened: list[str] = []
        self.document = Path()  # what its runtime is to open

    async def exec_attached(self, *arguments: object, **__: object) -> object:
        (self.document,) = [each for each in arguments if isinstance(each, Path)]
        self.begun.set()
        await self.reports.wait()
        self.happened.append("conmon reported")
        return self

    async def started(self) -> int:
        raise StartError("conmon ended before the process ran: it was killed")

    async def settled(self) -> None:
        self.happened.append("conmon settled")

    def close(self) -> None:
        self.happened.append("conmon let go")


@pytest.fixture
def conmon(monkeypatch: pytest.MonkeyPatch) -> SlowConmon:
    conmon = SlowConmon()

    async def kill(_: Path) -> None:
        # A runtime that comes late must not find another exec's pipe under that number.
        conmon.happened.append("all killed" if conmon.document.exists() else "pipe closed before")

    monkeypatch.setattr(prepared, "kill_at_work_on", kill)
    return conmon


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "d", tmp_path / "r")
    paths.make()
    return paths


@pytest.fixture
def preparer(conmon: SlowConmon, paths: Paths) -> Preparer:
    runner = SimpleNamespace(command=lambda _: None)
    bundles = SimpleNamespace(exec_process=lambda *_: {})
    return Preparer(
        cast("Conmon", conmon), cast("Runner", runner), cast("Bundles", bundles), paths, lambda _: ENTRY.container
    )


async def test_one_that_is_dropped_while_conmon_starts_waits_for_it(
    conmon: SlowConmon, preparer: Preparer, paths: Paths
) -> None:
    preparing = asyncio.create_task(preparer.prepare(ENTRY, ID, ExecSpec(args=("true",))))
    await conmon.begun.wait()
    await asyncio.sleep(0.05)  # the document is there: what is waited for now is conmon
    dropping = asyncio.create_task(preparer.drop(ID, preparing))
    await asyncio.sleep(0)
    assert not dropping.done()
    conmon.reports.set()
    await dropping
    assert conmon.happened == ["conmon reported", "conmon settled", "conmon let go", "all killed"]
    assert not paths.exec(ID).bundle.exists()
    assert not conmon.document.exists()


async def test_one_that_is_dropped_keeps_its_pipe_until_its_runtime_has_ended(
    conmon: SlowConmon, preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    conmon.reports.set()
    monkeypatch.setattr(StdioConnection, "connect", lambda _: SimpleNamespace(close=lambda: None))
    preparing = asyncio.create_task(preparer.prepare(ENTRY, ID, ExecSpec(args=("true",))))
    await preparing
    await preparer.drop(ID, preparing)
    assert "all killed" in conmon.happened
    assert not conmon.document.exists()


async def test_one_whose_conmon_does_not_stay_keeps_its_pipe_until_its_runtime_has_ended(
    conmon: SlowConmon, preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> StdioConnection:
        raise ConflictError("the process has ended")

    conmon.reports.set()
    monkeypatch.setattr(StdioConnection, "connect", refused)
    with pytest.raises(StartError):
        await preparer.prepare(ENTRY, ID, ExecSpec(args=("true",)))
    assert "all killed" in conmon.happened
    assert not conmon.document.exists()


async def test_one_whose_start_fails_keeps_its_pipe_until_its_runtime_has_ended(
    conmon: SlowConmon, preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    conmon.reports.set()
    monkeypatch.setattr(StdioConnection, "connect", lambda _: SimpleNamespace(close=lambda: None))
    ready = await preparer.prepare(ENTRY, ID, ExecSpec(args=("true",)))
    with pytest.raises(StartError):
        await ready.start()
    assert "all killed" in conmon.happened
    assert not conmon.document.exists()


async def test_a_user_whom_the_container_does_not_know_is_a_bad_argument(conmon: SlowConmon, paths: Paths) -> None:
    def unknown(*_: object) -> dict[str, object]:
        raise StartError("unable to find user web: no matching entries in passwd file")

    preparer = Preparer(
        cast("Conmon", conmon),
        cast("Runner", None),
        cast("Bundles", SimpleNamespace(exec_process=unknown)),
        paths,
        lambda _: ENTRY.container,
    )
    with pytest.raises(InvalidArgumentError, match=r"^unable to find user web: no matching entries in passwd file$"):
        await preparer.check_user(ENTRY.container, ExecSpec(args=("true",), user="web"))
    assert conmon.happened == []
