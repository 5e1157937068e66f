import asyncio
import itertools
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.containers.memory_store import ALLOWED, Entry, MemoryStore, check_move
from runtimed.containers.store import ContainerStore, Intent, Row
from sampan.errors import ConflictError, InvalidArgumentError, NoSpaceError, NotFoundError
from sampan.resource.container import Container, ContainerState, NetworkSettings, Status
from sampan.resource.container_spec import ContainerSpec, Resources
from sampan.resource.event import Event
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

NOW = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContainerStore]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as opened:
        yield ContainerStore(opened)


@pytest.fixture
def memory(store: ContainerStore) -> MemoryStore:
    return MemoryStore(store, random.Random(0), SetAside())


def container(digit: str, name: str) -> Container:
    return Container(digit * 64, ContainerSpec(name=name), NOW, runtime="runc", cgroup_path="/sampan/x")


@pytest.mark.parametrize(("old", "new"), tuple(itertools.product(Status, Status)))
def test_only_the_moves_of_the_table_are_possible(old: Status, new: Status) -> None:
    if new in ALLOWED[old]:
        check_move(old, new)
    else:
        with pytest.raises(ConflictError):
            check_move(old, new)


def test_every_state_but_dead_leads_somewhere_and_removal_is_never_taken_back() -> None:
    assert all(ALLOWED[status] - {status} for status in Status)
    assert ALLOWED[Status.REMOVING] <= {Status.REMOVING, Status.DEAD}


async def test_a_container_that_is_being_created_is_found_by_nobody_but_holds_its_name(memory: MemoryStore) -> None:
    entry = await memory.add(memory.claim(container("a", "web")))
    with pytest.raises(NotFoundError):
        memory.find("web")
    with pytest.raises(ConflictError, match=r'"/web" is already in use by container "a{64}"'):
        await memory.add(memory.claim(container("b", "web")))
    entry.intent = Intent.SETTLED
    assert memory.find("web") is memory.find("/web") is memory.find("a") is entry


async def test_an_ambiguous_prefix_is_refused_and_a_name_wins_over_a_prefix(memory: MemoryStore) -> None:
    for one in (container("a", "x1"), container("b", "aa")):
        (await memory.add(memory.claim(one))).intent = Intent.SETTLED
    other = Container("a" * 32 + "c" * 32, ContainerSpec(name="x2"), NOW)
    (await memory.add(memory.claim(other))).intent = Intent.SETTLED
    assert memory.find("aa").container.name == "aa"
    with pytest.raises(InvalidArgumentError, match="multiple IDs found with provided prefix: aaa"):
        memory.find("aaa")
    assert memory.find("a" * 33).container.name == "x1"
    with pytest.raises(NotFoundError, match="No such container: zzz"):
        memory.find("zzz")


async def test_another_process_reads_what_was_recorded(memory: MemoryStore, store: ContainerStore) -> None:
    entry = await memory.add(memory.claim(container("a", "old")))
    await memory.set_state(entry, ContainerState(Status.RUNNING, pid=7, started_at=NOW))
    await memory.rename(entry, "new")
    await memory.set_state(entry, ContainerState(Status.EXITED, exit_code=3), restart_count=2)
    again = MemoryStore(store, random.Random(0), SetAside())
    await again.load()
    found = again.find("new")
    assert found.container == entry.container
    assert found.container.restart_count == 2
    assert found.down.is_set()
    with pytest.raises(NotFoundError):
        again.find("old")


async def test_a_move_that_is_not_allowed_changes_nothing(memory: MemoryStore, store: ContainerStore) -> None:
    entry = await memory.add(memory.claim(container("a", "web")))
    with pytest.raises(ConflictError):
        await memory.set_state(entry, ContainerState(Status.PAUSED))
    assert entry.status is Status.CREATED
    assert (await store.containers())[0].container.state.status is Status.CREATED


async def test_a_removed_containers_name_is_free(memory: MemoryStore) -> None:
    await memory.remove(await memory.add(memory.claim(container("a", "web"))))
    second = await memory.add(memory.claim(container("b", "web")))
    second.intent = Intent.SETTLED
    assert memory.find("web") is second


class GatedStore(ContainerStore):
    """The real store, in which a change of state waits at a gate."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.gate = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)

    async def set_state(self, row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        self.waiting.release()
        await self.gate.wait()
        await super().set_state(row, event, durable=durable)


async def _while_its_exit_is_recorded(
    tmp_path: Path, operation: Callable[[MemoryStore, Entry], Awaitable[object]]
) -> tuple[Container, Container]:
    """Begin ``operation`` while the exit is on its way to disk; return what is shown at the end, and what is stored."""
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as opened:
        store = GatedStore(opened)
        memory = MemoryStore(store, random.Random(0), SetAside())
        entry = await memory.add(memory.claim(container("a", "web")))
        store.gate.set()
        await memory.set_state(entry, ContainerState(Status.RUNNING, pid=7, started_at=NOW))
        store.gate.clear()
        store.waiting = asyncio.Semaphore(0)
        ending = asyncio.create_task(memory.set_state(entry, ContainerState(Status.EXITED, exit_code=3)))
        await store.waiting.acquire()
        changing = asyncio.ensure_future(operation(memory, entry))
        for _ in range(3):
            await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(ending, changing)
        return entry.container, (await store.containers())[0].container


async def test_a_network_recorded_while_the_container_ends_leaves_it_ended(tmp_path: Path) -> None:
    settings = NetworkSettings(sandbox_path="/run/netns/x")
    shown, stored = await _while_its_exit_is_recorded(
        tmp_path, lambda memory, entry: memory.change(entry, lambda now: replace(now, network=settings))
    )
    assert shown == stored
    assert shown.state.status is Status.EXITED
    assert shown.network == settings


async def test_a_name_given_while_the_container_ends_leaves_it_ended(tmp_path: Path) -> None:
    shown, stored = await _while_its_exit_is_recorded(tmp_path, lambda memory, entry: memory.rename(entry, "new"))
    assert shown == stored
    assert (shown.name, shown.state.status) == ("new", Status.EXITED)


async def test_limits_changed_while_the_container_is_renamed_keep_the_new_name(memory: MemoryStore) -> None:
    entry = await memory.add(memory.claim(container("a", "old")))
    limits = Resources(memory_bytes=1 << 30)
    await asyncio.gather(
        memory.rename(entry, "new"),
        memory.change(entry, lambda now: replace(now, spec=replace(now.spec, resources=limits))),
    )
    assert (entry.container.name, entry.container.spec.resources) == ("new", limits)


async def test_a_container_that_is_removed_before_its_turn_takes_no_name(memory: MemoryStore) -> None:
    entry = await memory.add(memory.claim(container("a", "old")))
    outcomes = await asyncio.gather(memory.remove(entry), memory.rename(entry, "new"), return_exceptions=True)
    assert isinstance(outcomes[1], NotFoundError)
    for name in ("old", "new"):
        await memory.add(memory.claim(container("b" if name == "old" else "c", name)))


async def test_a_name_that_could_not_be_recorded_is_free_again(
    memory: MemoryStore, store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await memory.add(memory.claim(container("a", "old")))

    async def full(row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "set_container", full)
        with pytest.raises(sqlite3.OperationalError):
            await memory.rename(entry, "new")
    assert entry.container.name == "old"
    await memory.add(memory.claim(container("b", "new")))


async def test_what_has_happened_is_shown_on_a_full_disk_and_recorded_when_there_is_space(
    memory: MemoryStore, store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimed.containers.memory_store._RECORD_AGAIN_S", 0)
    entry = await memory.add(memory.claim(container("a", "web")))
    await memory.set_state(entry, ContainerState(Status.RUNNING, pid=7, started_at=NOW))
    write, recorded = store.set_state, asyncio.Event()

    async def full(row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        raise NoSpaceError("write metadata.db: no space left on device")

    async def spacious(row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        await write(row, event, durable=durable)
        recorded.set()

    monkeypatch.setattr(store, "set_state", full)
    ended = ContainerState(Status.EXITED, exit_code=3)
    with pytest.raises(NoSpaceError):
        await memory.set_state(entry, ended)
    assert entry.status is Status.RUNNING
    await memory.set_state(entry, ended, happened=True)
    assert (entry.status, memory.is_recorded(entry)) == (Status.EXITED, False)
    writing = asyncio.create_task(memory.write_behind())
    monkeypatch.setattr(store, "set_state", spacious)
    async with asyncio.timeout(60):
        await recorded.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    (row,) = await store.containers()
    assert row.container.state.exit_code == 3


async def test_each_owner_has_names_of_its_own_and_finds_its_own_by_prefixes(memory: MemoryStore) -> None:
    ours = await memory.add(memory.claim(container("a", "web")))
    theirs = replace(container("b", "web"), id="a" * 12 + "b" * 52, spec=ContainerSpec(name="web", owner="cri"))
    their_entry = await memory.add(memory.claim(theirs))
    for entry in (ours, their_entry):
        await memory.change(entry, lambda now: now, intent=Intent.SETTLED)
    assert memory.find("web") is memory.find("aaa") is ours
    assert memory.find("web", "cri") is memory.find("aaa", "cri") is their_entry
    assert memory.find("a" * 12 + "b") is their_entry  # as lists show it
    with pytest.raises(NotFoundError):
        memory.find("bbb", "other")
    with pytest.raises(ConflictError, match="already in use"):
        memory.claim(replace(theirs, id="c" * 64))
    await memory.rename(their_entry, "db")
    with pytest.raises(NotFoundError):
        memory.find("db")
    await memory.remove(their_entry)
    assert memory.find("web") is ours


async def test_an_owner_s_container_is_read_back_also_where_its_record_cannot_be(
    memory: MemoryStore, store: ContainerStore
) -> None:
    theirs = replace(container("b", "web"), spec=ContainerSpec(name="web", owner="cri"))
    await memory.add(memory.claim(container("a", "web")))
    await memory.add(memory.claim(theirs))
    assert [(row.container.name, row.container.spec.owner) for row in await store.containers()] == [
        ("web", ""),
        ("web", "cri"),
    ]
    await store._store.write(lambda db: db.execute("UPDATE containers SET spec='{' WHERE id=?", (theirs.id,)))
    (row,) = [row for row in await store.containers() if row.fault]
    assert (row.container.name, row.container.spec.owner) == ("web", "cri")


def test_no_name_at_all_is_no_name_of_a_container(memory: MemoryStore) -> None:
    with pytest.raises(InvalidArgumentError, match='invalid name or ID supplied: ""'):
        memory.find("")
