"""Preparations that end early: whatever was begun is waited for before its files are removed."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runtimed.conmon.conmon import Conmon
from runtimed.containers.memory_store import Entry
from runtimed.containers.paths import Paths
from runtimed.execs import prepared
from runtimed.execs.prepared import Preparer
from runtimed.lifecycle.runner import Runner
from runtimed.protocol import Bundles
from sampan.resource.exec import ExecSpec


class SlowConmon:
    """A conmon that has been started and has not yet reported."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.reports = asyncio.Event()
        self.happened: list[str] = []

    async def exec_attached(self, *_: object, **__: object) -> object:
        self.begun.set()
        await self.reports.wait()
        self.happened.append("conmon reported")
        return self

    async def settled(self) -> None:
        self.happened.append("conmon settled")

    def close(self) -> None:
        self.happened.append("conmon let go")


async def test_one_that_is_dropped_while_conmon_starts_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conmon = SlowConmon()

    async def kill(_: Path) -> None:
        conmon.happened.append("all killed")

    monkeypatch.setattr(prepared, "kill_at_work_on", kill)
    runner = SimpleNamespace(runtime=lambda _: SimpleNamespace(command=None))
    bundles = SimpleNamespace(exec_process=lambda *_: {})
    paths = Paths(tmp_path / "d", tmp_path / "r")
    paths.make()
    preparer = Preparer(cast("Conmon", conmon), cast("Runner", runner), cast("Bundles", bundles), paths)
    entry = cast("Entry", SimpleNamespace(id="c" * 64, container=SimpleNamespace(state=SimpleNamespace(pid=1))))
    preparing = asyncio.create_task(preparer.prepare(entry, "e" * 64, ExecSpec(args=("true",))))
    await conmon.begun.wait()
    await asyncio.sleep(0.05)  # the document is there: what is waited for now is conmon
    dropping = asyncio.create_task(preparer.drop("e" * 64, preparing))
    await asyncio.sleep(0)
    assert not dropping.done()
    conmon.reports.set()
    await dropping
    assert conmon.happened == ["conmon reported", "conmon settled", "conmon let go", "all killed"]
    assert not paths.exec("e" * 64).bundle.exists()
