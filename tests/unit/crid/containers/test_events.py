"""What becomes of pods and containers, as listeners hear it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from crid.containers.events import Kind, PodEvent, PodEvents
from crid.containers.model import Image, Record
from crid.sandboxes.model import Sandbox, State
from sampan.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from sampan.resource.event import Event
from tests.unit.crid.world import container, pod

SANDBOX = Sandbox("a" * 64, pod(), b"", 0, state=State.CREATING)


def record(id: str, name: str = "main") -> Record:
    return Record(f"k8s_{name}", SANDBOX.id, 0, container(name), Image("", "", ""), "", id)


def happened(action: str, id: str = "c1", name: str = "k8s_main", type: str = "container") -> Event:
    return Event(type, action, id, {"name": name}, time_ns=5)


@dataclass
class Machine:
    """runtimed's events and crid's records; both are the test's to change."""

    records: list[Record] = field(default_factory=list)
    events: asyncio.Queue[Event | None] = field(default_factory=asyncio.Queue)
    placed: asyncio.Event = field(default_factory=asyncio.Event)
    listening: int = 0

    def get(self, id: str) -> Record:
        for each in self.records:
            if each.id == id:
                return each
        raise NotFoundError(id)

    def named(self, name: str) -> Record | None:
        return next((each for each in self.records if each.name == name), None)

    def all(self) -> Iterable[Record]:
        return self.records

    async def follow(self) -> AsyncGenerator[Event | None, None]:
        self.listening += 1
        try:
            await self.placed.wait()
            yield None
            while (event := await self.events.get()) is not None:
                yield event
            raise UnavailableError("runtimed does not come back")
        finally:
            self.listening -= 1


@pytest.fixture
def machine() -> Machine:
    machine = Machine([record("c1")])
    machine.placed.set()
    return machine


def pod_events(machine: Machine, *sandboxes: Sandbox) -> PodEvents:
    return PodEvents(machine.follow, machine, sandboxes, lambda: 7)


@asynccontextmanager
async def listening(events: PodEvents) -> AsyncIterator[AsyncGenerator[PodEvent | None, None]]:
    async with asyncio.timeout(60), aclosing(events.subscribe()) as found:
        assert await anext(found) is None
        yield found


async def kinds(found: AsyncGenerator[PodEvent | None, None], count: int) -> list[tuple[str, Kind]]:
    read = [await anext(found) for _ in range(count)]
    return [(each.id[:2], each.kind) for each in read if each is not None]


async def test_containers_of_pods_are_told_of_by_their_ids(machine: Machine) -> None:
    async with listening(pod_events(machine)) as found:
        for action in ("create", "start", "exec_start: sh", "die", "destroy"):
            machine.events.put_nowait(happened(action))
        told = [await anext(found) for _ in range(4)]
    assert [each.kind for each in told if each] == [Kind.CREATED, Kind.STARTED, Kind.STOPPED, Kind.DELETED]
    assert told[0] == PodEvent("c1", SANDBOX.id, Kind.CREATED, 5)
    assert machine.listening == 0


async def test_one_that_is_just_being_made_is_known_by_its_name_and_one_that_is_gone_by_what_was_known(
    machine: Machine,
) -> None:
    machine.records = [record("")]
    async with listening(pod_events(machine)) as found:
        machine.events.put_nowait(happened("create", "c9"))
        assert await kinds(found, 1) == [("c9", Kind.CREATED)]
        machine.records.clear()
        machine.events.put_nowait(happened("destroy", "c9"))
        assert await kinds(found, 1) == [("c9", Kind.DELETED)]


async def test_what_holds_a_namespace_and_other_things_are_nobodys(machine: Machine) -> None:
    async with listening(pod_events(machine)) as found:
        machine.events.put_nowait(happened("start", "infra", "k8s_POD"))
        machine.events.put_nowait(happened("create", "c1", type="network"))
        machine.events.put_nowait(happened("start"))
        assert await kinds(found, 1) == [("c1", Kind.STARTED)]


async def test_a_sandbox_is_told_of_as_it_comes_stops_and_goes(machine: Machine) -> None:
    events = pod_events(machine)
    async with listening(events) as first, listening(events) as second:
        events.changed(SANDBOX, State.READY)
        ready = replace(SANDBOX, state=State.READY)
        for before, after in (
            (ready, State.STOPPING),
            (replace(ready, state=State.STOPPING), State.STOPPED),
            (replace(ready, state=State.STOPPED), State.STOPPED),
            (replace(ready, state=State.STOPPED), State.REMOVING),
            (replace(ready, state=State.REMOVING), None),
        ):
            events.changed(before, after)
        expected = [("aa", kind) for kind in (Kind.CREATED, Kind.STARTED, Kind.STOPPED, Kind.DELETED)]
        assert await kinds(first, 4) == expected
        assert await kinds(second, 4) == expected


async def test_a_sandbox_that_never_was_ready_is_not_told_of(machine: Machine) -> None:
    known = replace(SANDBOX, id="b" * 64, state=State.STOPPED)
    events = pod_events(machine, SANDBOX, known)
    async with listening(events) as found:
        events.changed(SANDBOX, State.REMOVING)
        events.changed(replace(SANDBOX, state=State.REMOVING), None)
        events.changed(known, None)
        assert await kinds(found, 1) == [("bb", Kind.DELETED)]


async def test_a_listener_that_does_not_keep_up_is_told_so_after_what_there_was(machine: Machine) -> None:
    events = pod_events(machine)
    async with listening(events) as found:
        for _ in range(600):
            events.changed(SANDBOX, State.READY)
        assert len(await kinds(found, 1000)) == 1000
        with pytest.raises(ResourceExhaustedError, match="look anew"):
            await anext(found)
    assert machine.listening == 0


async def test_the_end_of_runtimed_ends_the_stream(machine: Machine) -> None:
    async with listening(pod_events(machine)) as found:
        machine.events.put_nowait(None)
        with pytest.raises(UnavailableError):
            await anext(found)
