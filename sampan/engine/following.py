"""Logs, events, statistics and waits that go on when runtimed is killed under them: what it writes down outlives it.

Each asks again once the service is back, from just behind what was told already, so that nothing is told twice and
nothing is left out. Attachments and execs are not here: what they carry is nowhere written down. What goes
before each line of a log, if that is asked for, is here too, and what is left of a start that was broken off.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from sampan.docker.options.logs import details_of
from sampan.engine.parts import ContainerLookup
from sampan.errors import NotFoundError, NotModifiedError, SampanError, ServiceGoneError, UnavailableError
from sampan.resource.container import Condition, Exit, Status
from sampan.resource.event import Event
from sampan.resource.listing import EVERYONE, NO_FILTERS, Filters
from sampan.resource.stats import ContainerStats
from sampan.resource.streams import LogBatch, LogEntry, LogQuery

M = TypeVar("M")

# A service that ends this soon, this often in a row, does not bear what it is asked for: asking on would only hurt.
_SECOND_NS: Final = 1_000_000_000
_SOON_S: Final = 0.2
_PATIENCE: Final = 3


class FollowedContainers(ContainerLookup, Protocol):
    """What is asked for again; ``resource.protocols.Containers`` says what each promises."""

    async def start(self, container: str) -> None:
        """Start one."""

    def wait(self, container: str, condition: Condition = Condition.NOT_RUNNING) -> AsyncGenerator[Exit | None, None]:
        """Yield None when the wait is in place, then the exit."""

    def logs(self, container: str, query: LogQuery) -> AsyncGenerator[LogBatch, None]:
        """Yield what was logged."""

    def stats(
        self, container: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncGenerator[ContainerStats, None]:
        """Yield samples."""

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove one."""


class FollowedEvents(Protocol):
    """What happens; ``resource.protocols.Events`` says what each promises."""

    def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when the subscription is in place, then events."""

    async def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept."""


class Followed(Protocol):
    """The service that is followed, and when it can be called again."""

    @property
    def containers(self) -> FollowedContainers:
        """Its containers."""

    @property
    def events(self) -> FollowedEvents:
        """What happens to them."""

    @property
    def reconnected(self) -> Callable[[], Awaitable[None]]:
        """Returns when the service is back; UnavailableError if it does not come back."""


async def logs(runtime: Followed, container: str, query: LogQuery) -> AsyncGenerator[LogBatch, None]:
    """Yield what ``Containers.logs`` yields.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    place = LogPlace(query)
    read = _persistent(runtime, lambda: runtime.containers.logs(container, place.rest()))
    async with aclosing(read) as batches:
        async for batch in batches:
            yield place.new(batch)


class LogPlace:
    """How far a log has been read: its last line's time, and how many lines of that time were seen."""

    def __init__(self, query: LogQuery) -> None:
        self._query = query
        self._begun_ns = time.time_ns()
        self._asked = False
        self._last_ns: int | None = None
        self._seen = 0
        self._again = 0  # of what comes next: seen before

    def rest(self) -> LogQuery:
        """Return the query for what was not read yet."""
        rest = self._query
        self._again = self._seen
        if self._last_ns is not None:
            rest = replace(rest, since_ns=self._last_ns, tail=None)
        elif self._asked and rest.tail == 0:  # only what is new
            rest = replace(rest, since_ns=self._begun_ns, tail=None)
        self._asked = True
        return rest

    def new(self, batch: LogBatch) -> LogBatch:
        """Return ``batch`` without what was read before, and take note of the rest."""
        if self._again:
            batch = LogBatch(list(self._unseen(batch.entries)), batch.tty)
        if batch.entries:
            last = batch.entries[-1].time_ns
            same = sum(one.line_count for one in batch.entries if one.time_ns == last)
            self._seen = same + (self._seen if last == self._last_ns else 0)
            self._last_ns = last
        return batch

    def _unseen(self, entries: Iterable[LogEntry]) -> Iterable[LogEntry]:
        for entry in entries:
            if not self._again or entry.time_ns != self._last_ns:
                yield entry
            elif self._again < (count := entry.line_count):
                seen, self._again = self._again, 0
                yield entry.after(seen)
            else:
                self._again -= count


async def events(
    runtime: Followed, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
) -> AsyncGenerator[Event | None, None]:
    """Yield None when the subscription is in place, so that nothing is missed from there on; then the events.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    begun_ns = time.time_ns()
    asked = placed = False

    def subscribe() -> AsyncGenerator[Event | None, None]:
        nonlocal asked, since_ns
        if asked:
            since_ns = since_ns or begun_ns  # the service went before the first event, or before it was asked
        asked = True
        return runtime.events.subscribe(since_ns=since_ns, until_ns=until_ns, filters=filters, owner=owner)

    async with aclosing(_persistent(runtime, subscribe)) as told:
        async for event in told:
            if event is not None:
                since_ns = event.time_ns + 1  # no two events have one time
                yield event
            elif not placed:
                placed = True
                yield None


async def dropped_events(runtime: Followed, since_ns: int) -> str:
    """Return a sentence if events from ``since_ns`` on are asked for of which the oldest are not kept, else empty."""
    try:
        kept_ns = await runtime.events.kept_since_ns()
    except UnavailableError:
        return ""  # it is being started again, and who follows waits for that
    if since_ns >= kept_ns:
        return ""
    kept = datetime.fromtimestamp(kept_ns // _SECOND_NS, UTC)
    return f"events before {kept:%Y-%m-%dT%H:%M:%S}Z are not kept any more"


def stats(
    runtime: Followed, container: str, *, stream: bool = True, one_shot: bool = False
) -> AsyncGenerator[ContainerStats, None]:
    """Yield what ``Containers.stats`` yields; the first sample after a gap has nothing to compare with.

    Raises:
        UnavailableError: the service does not come back.
        SampanError: what it refuses with.
    """
    return _persistent(runtime, lambda: runtime.containers.stats(container, stream=stream, one_shot=one_shot))


async def wait(
    runtime: Followed, container: str, condition: Condition = Condition.NOT_RUNNING
) -> AsyncGenerator[Exit | None, None]:
    """Yield None when the wait is in place, then the exit, even one that came while nobody watched.

    Raises:
        UnavailableError: the service does not come back, or the container is gone and nobody knows how it ended.
        SampanError: what it refuses with.
    """
    begun_ns = time.time_ns()
    placed = False

    async def place() -> AsyncGenerator[Exit | None, None]:
        try:
            async with aclosing(runtime.containers.wait(container, condition)) as told:
                async for end in told:
                    if end is None and placed and condition is not Condition.REMOVED:
                        # The new wait is in place, so the exit cannot fall between it and this look back.
                        missed = await _missed_exit(runtime, container, begun_ns)
                        if missed is not None:
                            yield missed
                            return
                    yield end
        except NotFoundError:
            if not placed:
                raise
            yield await _last_exit(runtime, container, begun_ns)

    async with aclosing(_persistent(runtime, place)) as answers:
        async for answer in answers:
            if not (answer is None and placed):
                yield answer
            placed = True


async def start(runtime: Followed, container: str) -> None:
    """Start it. One that is removed at its end, and whose start failed before it ran, is removed.

    ``docker run --rm`` waits for that after every start that failed. runtimed sees to it where it has begun with the
    start: not if it was killed before, or had no space to write down that it begins.

    Raises:
        ServiceGoneError: the service went away; whether it is started nobody knows.
        SampanError: what it refuses with.
    """
    try:
        await runtime.containers.start(container)
    except NotModifiedError:
        raise
    except SampanError as error:
        with suppress(SampanError):  # it is gone already, or runs
            if isinstance(error, ServiceGoneError):
                await runtime.reconnected()
            found = await runtime.containers.get(container)
            if found.spec.auto_remove and found.state.status is Status.CREATED:
                await runtime.containers.remove(found.id, volumes=True)
        raise


async def _missed_exit(runtime: Followed, container: str, begun_ns: int) -> Exit | None:
    """Return how the container ended since ``begun_ns``; None if it did not."""
    code = await _told_exit(runtime, container, begun_ns)
    if code is not None:
        return Exit(code)
    # A service that was killed may have written down the end and not yet the event.
    state = (await runtime.containers.get(container)).state
    if state.finished_at is not None and state.finished_at.timestamp() >= begun_ns / 1e9:
        return Exit(state.exit_code, state.error)
    return None


async def _last_exit(runtime: Followed, container: str, begun_ns: int) -> Exit:
    code = await _told_exit(runtime, container, begun_ns)
    if code is None:
        raise UnavailableError(f"container {container} was removed while the engine restarted: its exit code is lost")
    return Exit(code)


async def _told_exit(runtime: Followed, container: str, begun_ns: int) -> int | None:
    """Return the exit code of the container's last ``die`` event since ``begun_ns``."""
    filters = {"type": ("container",), "event": ("die",), "container": (container,)}
    code = None
    told = runtime.events.subscribe(since_ns=begun_ns, until_ns=time.time_ns(), filters=filters, owner=EVERYONE)
    async with aclosing(told):
        async for event in told:
            if event is not None:
                code = int(event.attributes["exitCode"])
    return code


async def _persistent(runtime: Followed, call: Callable[[], AsyncGenerator[M, None]]) -> AsyncGenerator[M, None]:
    """Yield what ``call`` yields, and call again, as soon as there is somebody to call, if the service goes away."""
    short = 0
    while True:
        began = time.monotonic()
        try:
            async with aclosing(call()) as messages:
                async for message in messages:
                    yield message
            return
        except UnavailableError:
            short = short + 1 if time.monotonic() - began < _SOON_S else 0
            if short >= _PATIENCE:
                raise
        await runtime.reconnected()


async def log_details(containers: ContainerLookup, container: str) -> bytes:
    """Return what to put before each line of a container's log, at least a space.

    Raises:
        NotFoundError: there is no such container.
    """
    return details_of(await containers.get(container))
