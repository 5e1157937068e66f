"""Where the reading of a log goes on after its service was gone, and what is left of a start."""

import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import cast

import pytest

from sampan.engine import following
from sampan.engine.following import LogPlace
from sampan.errors import (
    NoSpaceError,
    NotFoundError,
    NotModifiedError,
    SampanError,
    ServiceGoneError,
    UnavailableError,
)
from sampan.resource.container import ContainerDetails, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.event import Event
from sampan.resource.protocols import Containers, Events
from sampan.resource.streams import LogBatch, LogEntry, LogQuery, Stream


def answer(*entries: tuple[int, bytes]) -> LogBatch:
    return LogBatch([LogEntry(Stream.STDOUT, time_ns, line) for time_ns, line in entries])


def lines(read: LogBatch) -> list[bytes]:
    return [entry.line for entry in read.entries]


def reread(log: list[tuple[int, bytes]], query: LogQuery) -> LogBatch:
    """Return what a service sends for ``query``."""
    return answer(*(entry for entry in log if entry[0] >= query.since_ns))


def test_lines_of_one_time_are_told_once() -> None:
    log = [(10, b"a"), (20, b"b"), (20, b"c"), (20, b"d"), (30, b"e")]
    place = LogPlace(LogQuery(follow=True))
    assert lines(place.new(answer(*log[:2]))) == [b"a", b"b"]
    assert lines(place.new(answer(log[2]))) == [b"c"]
    again = place.rest()
    assert (again.follow, again.since_ns) == (True, 20)
    assert lines(place.new(reread(log, again))) == [b"d", b"e"]
    assert place.rest().since_ns == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f")))) == [b"f"]
    assert place.rest().since_ns == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f"), (31, b"g")))) == [b"g"]


def test_what_was_seen_is_left_out_even_if_it_comes_in_pieces() -> None:
    log = [(20, b"a"), (20, b"b"), (20, b"c")]
    place = LogPlace(LogQuery())
    place.new(answer(*log[:2]))
    place.rest()
    assert lines(place.new(answer(log[0]))) == []
    assert lines(place.new(answer(log[1], log[2]))) == [b"c"]
    place.rest()
    assert lines(place.new(answer(*log))) == []


def test_lines_that_were_joined_are_told_once_however_they_are_joined() -> None:
    place = LogPlace(LogQuery(joined=True))
    place.new(answer((10, b"a\n"), (20, b"b\nc\n")))
    assert (place.rest().since_ns, place.rest().joined) == (20, True)
    assert lines(place.new(answer((20, b"b\nc\nd\ne\n"), (20, b"f\n")))) == [b"d\ne\n", b"f\n"]
    place.rest()
    assert lines(place.new(answer((20, b"b\n"), (20, b"c\nd\ne\nf\ng\n"), (20, b"h\n")))) == [b"g\n", b"h\n"]


def test_the_last_lines_are_asked_for_once() -> None:
    place = LogPlace(LogQuery(tail=5, follow=True))
    assert place.rest().tail == 5
    place.new(answer((20, b"a")))
    assert place.rest().tail is None
    assert place.rest().since_ns == 20


def test_only_new_lines_stay_only_new_lines() -> None:
    place = LogPlace(LogQuery(tail=0, follow=True))
    assert place.rest().tail == 0
    rest = place.rest()
    assert rest.tail is None
    assert rest.since_ns > 0


class BrokenStart:
    """A runtimed that is killed under a start: its container is as ``status`` says when it is back."""

    def __init__(self, status: Status, *, auto_remove: bool = True) -> None:
        spec = ContainerSpec(name="web", auto_remove=auto_remove)
        state = ContainerState(status)
        self.container = ContainerDetails("c" * 64, spec, datetime.fromtimestamp(0, UTC), state=state)
        self.happened: list[str] = []
        self.comes_back = True
        self.refusal: SampanError = ServiceGoneError("a service of the engine went away")
        self.containers, self.events = cast("Containers", self), cast("Events", self)

    async def start(self, container: str) -> None:
        self.happened.append(f"start {container}")
        raise self.refusal

    async def reconnected(self) -> None:
        if not self.comes_back:
            raise UnavailableError("service runtimed does not answer")
        self.happened.append("back")

    async def get(self, container: str) -> ContainerDetails:
        if self.container.state.status is Status.REMOVING:
            raise NotFoundError(f"No such container: {container}")
        return self.container

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        assert (container, force, volumes) == ("c" * 64, False, True)
        self.happened.append("remove")


async def happened(runtime: BrokenStart) -> list[str]:
    with pytest.raises(type(runtime.refusal)):
        await following.start(runtime, "web")
    return runtime.happened


async def test_what_goes_at_its_end_goes_if_its_start_was_broken_off_before_it_ran() -> None:
    assert await happened(BrokenStart(Status.CREATED)) == ["start web", "back", "remove"]


@pytest.mark.parametrize("status", [Status.RUNNING, Status.EXITED, Status.REMOVING])
async def test_what_ran_is_left_to_its_end(status: Status) -> None:
    assert await happened(BrokenStart(status)) == ["start web", "back"]


async def test_what_stays_at_its_end_stays_if_its_start_was_broken_off() -> None:
    assert await happened(BrokenStart(Status.CREATED, auto_remove=False)) == ["start web", "back"]


async def test_a_start_is_broken_off_also_if_the_service_does_not_come_back() -> None:
    runtime = BrokenStart(Status.CREATED)
    runtime.comes_back = False
    assert await happened(runtime) == ["start web"]


async def test_what_goes_at_its_end_goes_if_there_is_no_space_to_begin_its_start() -> None:
    runtime = BrokenStart(Status.CREATED)
    runtime.refusal = NoSpaceError("write metadata.db: no space left on device")
    assert await happened(runtime) == ["start web", "remove"]


async def test_what_is_started_already_is_left_alone() -> None:
    runtime = BrokenStart(Status.CREATED)  # by another client, at this moment
    runtime.refusal = NotModifiedError("Container web is already running")
    assert await happened(runtime) == ["start web"]


class LateEvents:
    """A runtimed that goes away before it has answered the first subscription."""

    def __init__(self) -> None:
        self.since: list[int] = []
        self.containers, self.events = cast("Containers", self), cast("Events", self)

    async def subscribe(self, *, since_ns: int = 0, **_: object) -> AsyncGenerator[Event | None, None]:
        self.since.append(since_ns)
        if len(self.since) == 1:
            raise ServiceGoneError("a service of the engine went away")
        yield None

    async def reconnected(self) -> None:
        """Come back."""


async def test_events_from_the_first_question_on_are_told_though_it_had_no_answer() -> None:
    runtime, begun_ns = LateEvents(), time.time_ns()
    assert [event async for event in following.events(runtime)] == [None]
    assert runtime.since[0] == 0
    assert begun_ns <= runtime.since[1] <= time.time_ns()
