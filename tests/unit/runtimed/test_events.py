import asyncio
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

import pytest

from runtimed.events import KEPT, Events, matches
from sampan.errors import ConflictError, UnavailableError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.event import Event
from sampan.resource.listing import Filters


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append_events(self, events: Iterable[Event]) -> None:
        self.events += events


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


def event(action: str, id: str = "c1", **attributes: str) -> Event:
    return Event("container", action, id, attributes)


@pytest.fixture
def journal() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events(journal: Memory, clock: Clock) -> Events:
    return Events(journal, [], clock)


async def collect(events: Events, since_ns: int = 0, until_ns: int = 0, **filters: tuple[str, ...]) -> list[str]:
    stopping = asyncio.Event()
    told = events.subscribe(since_ns, until_ns, filters, stopping)
    return [one.action async for one in told if one is not None]


async def action(stream: AsyncGenerator[Event | None, None]) -> str:
    told = await anext(stream)
    assert told is not None
    return told.action


async def test_past_events_come_first_and_then_live_ones_without_a_gap(events: Events) -> None:
    stopping = asyncio.Event()
    events.publish(event("create"))
    stream = events.subscribe(1, 0, {}, stopping)
    assert await anext(stream) is None
    assert await action(stream) == "create"
    events.publish(event("start"))
    events.publish(event("die"))
    assert [await action(stream), await action(stream)] == ["start", "die"]
    stopping.set()
    with pytest.raises(UnavailableError, match="stopping"):
        await anext(stream)


async def test_without_since_the_past_is_left_out_but_with_an_end_alone_all_of_it_is_there(
    events: Events, clock: Clock
) -> None:
    events.publish(event("create"))
    clock.now_ns = 5_000
    assert await collect(events, until_ns=4_000) == ["create"]
    assert await collect(events, since_ns=1, until_ns=4_000) == ["create"]
    stopping = asyncio.Event()
    stream = events.subscribe(0, 0, {}, stopping)
    assert await anext(stream) is None  # it listens from here on
    events.publish(event("start"))
    assert await action(stream) == "start"
    await stream.aclose()


async def test_times_strictly_increase_though_the_clock_stands_or_goes_back(events: Events, clock: Clock) -> None:
    for now_ns in (1_000, 1_000, 500):
        clock.now_ns = now_ns
        events.publish(event("x"))
    clock.now_ns = 2_000
    told = events.subscribe(1, 2_000, {}, asyncio.Event())
    times = [one.time_ns async for one in told if one is not None]
    assert times == [1_000, 1_001, 1_002]


async def test_memory_is_bounded(events: Events, clock: Clock) -> None:
    for _ in range(KEPT + 10):
        events.publish(event("x"))
    clock.now_ns = 10**9
    assert len(await collect(events, since_ns=1, until_ns=10**8)) == KEPT


async def test_the_journal_gets_everything_even_what_is_published_last(events: Events, journal: Memory) -> None:
    writer = asyncio.create_task(events.write_behind())
    events.publish(event("one"))
    await asyncio.sleep(0)
    events.publish(event("two"))
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert [one.action for one in journal.events] == ["one", "two"]


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ("container",)}, True),
        ({"type": ("image",)}, False),
        ({"event": ("exec_start",)}, True),
        ({"event": ("start", "exec_start: sh")}, True),
        ({"event": ("start",)}, False),
        ({"container": ("web",)}, True),
        ({"container": ("c123",)}, True),
        ({"container": ("c999",)}, False),
        ({"image": ("busybox",)}, True),
        ({"image": ("busybox:1",)}, True),
        ({"image": ("alpine",)}, False),
        ({"label": ("team",)}, True),
        ({"label": ("team=a",)}, True),
        ({"label": ("team=b",)}, False),
        ({"network": ("c123",)}, False),
        ({"nonsense": ("x",)}, False),
        ({"type": ("container", "image"), "container": ("web",)}, True),
    ],
)
def test_filters(filters: Filters, passes: bool) -> None:
    one = Event("container", "exec_start: sh", "c12345", {"name": "web", "image": "busybox:1", "team": "a"})
    assert matches(one, filters) is passes


async def test_it_is_known_how_far_back_events_are_kept(journal: Memory, clock: Clock) -> None:
    events = Events(journal, (), clock)
    for _ in range(KEPT - 1):
        events.publish(event("start"))
    assert events.kept_since_ns() == 0
    for _ in range(11):
        events.publish(event("start"))
    assert events.kept_since_ns() == clock.now_ns + 10


def made() -> Container:
    return Container("c1", ContainerSpec(name="web", image="i", labels={"l": "x"}), datetime.fromtimestamp(0, UTC))


async def test_what_is_recorded_with_its_event_is_told_after_that_and_not_recorded_again(
    events: Events, journal: Memory
) -> None:
    told = events.subscribe(0, 0, {}, asyncio.Event())
    assert await anext(told) is None
    with events.recording(made(), "start") as telling:
        assert telling.event.attributes == {"l": "x", "image": "i", "name": "web"}
        events.publish(event("kill"))
        assert events.published == 0
        telling.recorded = True
    assert [await action(told), await action(told)] == ["start", "kill"]
    writer = asyncio.create_task(events.write_behind())
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert [each.action for each in journal.events] == ["kill"]
    await told.aclose()


async def test_what_could_not_be_recorded_with_its_event_is_recorded_later(events: Events, journal: Memory) -> None:
    with events.recording(made(), "die"):
        pass  # the disk is full, and it has happened all the same
    writer = asyncio.create_task(events.write_behind())
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert [each.action for each in journal.events] == ["die"]


async def test_what_did_not_happen_after_all_is_not_told(events: Events) -> None:
    def fail() -> None:
        with events.recording(made(), "start"):
            events.publish(event("kill"))
            raise ConflictError("no")

    with pytest.raises(ConflictError):
        fail()
    assert await collect(events, 1, 2_000) == ["kill"]


async def test_events_that_are_recorded_at_the_same_time_are_told_in_the_order_of_their_times(events: Events) -> None:
    with events.recording(made(), "die"):
        with events.recording(made(), "start"):
            pass
        assert events.published == 0
    assert await collect(events, 1, 2_000) == ["die", "start"]
