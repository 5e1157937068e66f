"""What happens to execs while the store is waited for, in an order that the tests choose."""

import asyncio
import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from runtimed.conmon.conmon import Conmon
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import ContainerStore, Intent
from runtimed.events import Events
from runtimed.execs.operations import Execs
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.runner import Runner
from runtimed.protocol import Bundles
from sampan.errors import NotFoundError
from sampan.resource.container import Container, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.exec import Exec, ExecSpec
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = ExecSpec(args=("true",), tty=True)  # nothing is prepared ahead with a terminal
KEPT = 256


class GatedStore(ContainerStore):
    """The real store, whose calls on execs wait at a gate that the test opens."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Semaphore(0)

    async def _pass(self) -> None:
        self.waiting.release()
        await self.gate.wait()

    async def add_exec(self, exec: Exec, created_ns: int) -> None:
        await self._pass()
        await super().add_exec(exec, created_ns)

    async def remove_exec(self, id: str) -> None:
        await self._pass()
        await super().remove_exec(id)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as opened:
        yield GatedStore(opened)


@pytest.fixture
async def memory(store: GatedStore) -> MemoryStore:
    return MemoryStore(store, random.Random(0), SetAside())


@pytest.fixture
async def execs(store: GatedStore, memory: MemoryStore, tmp_path: Path) -> AsyncIterator[Execs]:
    background = Background()
    paths = Paths(tmp_path / "data", tmp_path / "run")
    paths.make()
    yield Execs(
        memory,
        store,
        cast("Runner", None),
        cast("Bundles", None),
        cast("Conmon", None),
        Events(store, ()),
        background,
        paths,
        asyncio.Event(),
    )
    await background.close()


@pytest.fixture
async def entry(memory: MemoryStore) -> Entry:
    made = await memory.add(memory.claim(Container("a" * 64, ContainerSpec(name="web"), NOW)))
    await memory.change(made, lambda container: container, intent=Intent.SETTLED)
    await memory.set_state(made, ContainerState(Status.RUNNING, pid=1, started_at=NOW))
    return made


async def _ended(execs: Execs, entry: Entry, count: int) -> list[str]:
    made = [(await execs.create(entry, SPEC)).id for _ in range(count)]
    for key in made:
        running = execs.known._by_id[key]
        running.exec = replace(running.exec, started=True, exit_code=0)
    return made


async def test_execs_made_at_the_same_time_drop_each_old_one_once(
    execs: Execs, entry: Entry, store: GatedStore
) -> None:
    old = await _ended(execs, entry, KEPT + 1)
    store.gate.clear()
    store.waiting = asyncio.Semaphore(0)
    making = [asyncio.create_task(execs.create(entry, SPEC)) for _ in range(3)]
    await store.waiting.acquire()  # one of them is removing a record, and the others have chosen as well
    await asyncio.sleep(0)
    store.gate.set()
    made = await asyncio.gather(*making)
    assert [execs.known.get(one.id).id for one in made] == [one.id for one in made]
    with pytest.raises(NotFoundError):
        execs.known.get(old[0])
    assert [execs.known.get(key).id for key in old[1:]] == old[1:]
    assert {one.id for one in await store.execs()} == {*old[1:], *(one.id for one in made)}


async def test_an_exec_that_was_made_and_is_about_to_start_is_not_dropped_for_those_that_came_after(
    execs: Execs, entry: Entry
) -> None:
    waiting = await execs.create(entry, SPEC)
    await _ended(execs, entry, KEPT + 10)
    assert execs.known.get(waiting.id) == waiting


async def test_an_exec_made_while_its_container_is_removed_is_refused_and_leaves_nothing(
    execs: Execs, entry: Entry, store: GatedStore, memory: MemoryStore
) -> None:
    store.gate.clear()
    making = asyncio.create_task(execs.create(entry, SPEC))
    await store.waiting.acquire()
    await memory.remove(entry)
    execs.known.forget_container(entry.id)
    store.gate.set()
    with pytest.raises(NotFoundError, match=f"No such container: {entry.id}"):
        await making
    assert entry.id not in execs.known.ids()
    assert await store.execs() == []


async def test_an_exec_that_cannot_be_recorded_is_not_kept(
    execs: Execs, entry: Entry, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(exec: Exec, created_ns: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "add_exec", full)
    with pytest.raises(sqlite3.OperationalError):
        await execs.create(entry, SPEC)
    assert entry.id not in execs.known.ids()


async def test_an_exec_whose_conmon_has_not_written_its_pid_runs_and_has_the_exit_code_that_comes(
    execs: Execs, entry: Entry, store: GatedStore, tmp_path: Path
) -> None:
    record = Exec("e" * 64, entry.id, SPEC, started=True)
    await store.add_exec(record, 1)
    await store.set_exec(record)
    paths = Paths(tmp_path / "data", tmp_path / "run").exec(record.id)
    paths.exits.mkdir(parents=True)
    script = f"echo ready; read go; echo 7 > {paths.exits}/{entry.id}"
    command = ["sh", "-c", script, "conmon", "-b", str(paths.bundle)]
    conmon = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert conmon.stdout is not None
    assert conmon.stdout.readline() == b"ready\n"  # until then its arguments may not be there
    try:
        await execs.recover()
        assert execs.known.get(record.id).running
        conmon.communicate(b"go\n")
        async with asyncio.timeout(60):
            await execs.known.find(record.id).done.wait()
    finally:
        conmon.kill()
    assert execs.known.get(record.id).exit_code == 7


async def test_an_exec_that_was_recorded_and_never_begun_has_not_run(
    execs: Execs, entry: Entry, store: GatedStore
) -> None:
    record = Exec("e" * 64, entry.id, SPEC, started=True)
    await store.add_exec(record, 1)
    await store.set_exec(record)
    await execs.recover()
    async with asyncio.timeout(60):
        await execs.known.find(record.id).done.wait()
    assert execs.known.get(record.id).exit_code == 137
