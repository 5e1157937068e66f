"""What happened, told to those who listen and kept for those who ask later.

Most events are written to the journal behind: a process that is killed takes those of the last milliseconds with it. An
event without which a history makes no sense is recorded together with the change that it is about: see ``recording``.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sampan.errors import NoSpaceError, UnavailableError
from sampan.log import log
from sampan.resource.container import Container
from sampan.resource.event import Event
from sampan.resource.listing import EVERYONE, Filters

_SECOND_NS: Final = 1_000_000_000
KEPT: Final = 4096  # events in memory and in the journal
UNSEEN_EXIT: Final = 137  # of an exec whose conmon was killed: the kernel kills what conmon held


class Journal(Protocol):
    """Where events outlive the process."""

    async def append_events(self, events: Iterable[Event]) -> None:
        """Record ``events``, and drop the oldest ones beyond ``KEPT``."""


@dataclass(slots=True, eq=False)
class Telling:
    """An event that has its time, and how far it is."""

    event: Event
    decided: bool = False  # it has happened, or it has not
    happened: bool = True
    recorded: bool = False  # it is in the journal


class Events:
    """The engine's events. ``publish`` never waits: the journal is written behind."""

    def __init__(self, journal: Journal, past: Iterable[Event], now_ns: Callable[[], int] = time.time_ns) -> None:
        self._journal = journal
        self._past: deque[Event] = deque(past, KEPT)
        self._now_ns = now_ns
        self._last_ns = self._past[-1].time_ns if self._past else 0
        self.published = 0  # by this process
        self._subscribers: set[asyncio.Queue[Event]] = set()
        self._untold: deque[Telling] = deque()  # in the order of their times
        self._unwritten: list[Event] = []
        self._written = asyncio.Event()

    def publish(self, event: Event) -> None:
        """Stamp, keep and tell ``event``."""
        self._stamped(event).decided = True
        self._tell()

    def container(self, container: Container, action: str, **attributes: str) -> None:
        """Publish that ``action`` happened to ``container``, with its name, image and labels as Docker does."""
        self.publish(_of_container(container, action, attributes))

    def exec_created(self, container: Container, id: str, args: Sequence[str]) -> None:
        """Publish that there is a further process, of a client's or a health check's, which may be started."""
        self.container(container, f"exec_create: {_command(args)}", execID=id)

    def exec_started(self, container: Container, id: str, args: Sequence[str]) -> None:
        """Publish that it is being started; as Docker's, this does not say that it could be."""
        self.container(container, f"exec_start: {_command(args)}", execID=id)

    def exec_died(self, container: Container, id: str, code: int) -> None:
        """Publish that it has ended."""
        self.container(container, "exec_die", execID=id, exitCode=str(code))

    @contextmanager
    def recording(self, container: Container, action: str, **attributes: str) -> Iterator[Telling]:
        """Record within, together with what it is about, that ``action`` happened to ``container``; it is told after.

        If the block fails it has not happened. Events that are published meanwhile are told after it, for nobody who
        asks for those since the last one that was told may miss one.
        """
        telling = self._stamped(_of_container(container, action, attributes))
        try:
            yield telling
        except BaseException:
            telling.happened = False
            raise
        finally:
            telling.decided = True
            self._tell()

    def _stamped(self, event: Event) -> Telling:
        # Strictly increasing, so that "since the last one I saw" repeats nothing and loses nothing.
        stamp = event.time_ns or max(self._now_ns(), self._last_ns + 1)
        self._last_ns = max(stamp, self._last_ns)
        self._untold.append(Telling(replace(event, time_ns=stamp)))
        return self._untold[-1]

    def _tell(self) -> None:
        while self._untold and self._untold[0].decided:
            telling = self._untold.popleft()
            if not telling.happened:
                continue
            self.published += 1
            self._past.append(telling.event)
            if not telling.recorded:
                self._unwritten.append(telling.event)
                self._written.set()
            for queue in self._subscribers:
                queue.put_nowait(telling.event)

    def subscribers(self) -> int:
        """Return how many listen just now."""
        return len(self._subscribers)

    def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept, 0 as long as none can have been dropped."""
        return self._past[0].time_ns if len(self._past) == KEPT else 0

    async def subscribe(
        self, since_ns: int, until_ns: int, filters: Filters, stopping: asyncio.Event, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when nothing is missed any more, past events from ``since_ns`` on, and live ones.

        Of containers, ``owner``'s; ``EVERYONE``: all. Ends at ``until_ns``; 0: never.

        Without ``since_ns`` (0) there are no past ones, unless there is an end: then all of them, as with Docker.

        Raises:
            UnavailableError: the service stops first.
        """

        def wanted(event: Event) -> bool:
            return owner in (event.owner, EVERYONE) and matches(event, filters)

        queue: asyncio.Queue[Event] = asyncio.Queue()
        past = [event for event in self._past if (since_ns or until_ns) and event.time_ns >= since_ns]
        self._subscribers.add(queue)  # in the same step as looking back, so that nothing falls in between
        stopper = asyncio.create_task(stopping.wait(), name="end of events")
        try:
            yield None
            for event in past:
                if (not until_ns or event.time_ns <= until_ns) and wanted(event):
                    yield event
            while (event_or_none := await self._next(queue, until_ns, stopper)) is not None:
                if wanted(event_or_none):
                    yield event_or_none
        finally:
            stopper.cancel()
            self._subscribers.discard(queue)
        if stopping.is_set() and not (until_ns and until_ns <= self._now_ns()):
            raise UnavailableError("runtimed is stopping")

    async def _next(self, queue: asyncio.Queue[Event], until_ns: int, stopper: "asyncio.Task[bool]") -> Event | None:
        left_s = (until_ns - self._now_ns()) / _SECOND_NS if until_ns else None
        if left_s is not None and left_s <= 0:
            return None
        getter = asyncio.create_task(queue.get(), name="next event")
        try:
            done, _ = await asyncio.wait({getter, stopper}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            return getter.result() if getter in done else None
        finally:
            getter.cancel()

    async def write_behind(self) -> None:
        """Write what is published to the journal, for as long as the service lives, and what is left at the end."""
        try:
            while True:
                await self._written.wait()
                await self._flush()
        finally:
            with suppress(asyncio.CancelledError):
                await self._flush()

    async def _flush(self) -> None:
        self._written.clear()
        events, self._unwritten = self._unwritten, []
        if events:
            try:
                await self._journal.append_events(events)
            except NoSpaceError as error:  # with the next ones, perhaps; subscribers have had them
                log.warning("events not written", number=len(events), error=str(error))
                self._unwritten[:0] = events[-KEPT:]


def _command(args: Sequence[str]) -> str:
    """Return a command line as Docker's events have it, with a space behind a command without arguments."""
    return f"{args[0]} {' '.join(args[1:])}"


def _of_container(container: Container, action: str, attributes: Mapping[str, str]) -> Event:
    described = {**container.spec.labels, "image": container.spec.image, "name": container.name, **attributes}
    return Event("container", action, container.id, described, owner=container.spec.owner)


def matches(event: Event, filters: Filters) -> bool:
    """Whether ``event`` passes all of ``filters``: Docker's, any value of each. Unknown ones pass nothing."""
    return all(_matches_one(event, key, values) for key, values in filters.items() if values)


def _matches_one(event: Event, key: str, values: tuple[str, ...]) -> bool:
    attributes = event.attributes
    if key == "type":
        return event.type in values
    if key in ("event", "action"):
        # "exec_start" matches "exec_start: sh", "health_status" matches "health_status: healthy".
        return any(event.action == value or event.action.startswith(f"{value}:") for value in values)
    if key == "label":
        return all(_has_label(attributes, value) for value in values)
    if key in ("container", "image", "network", "volume", "daemon"):
        names = _names(event, key)
        prefixed = event.actor_id if event.type == key else ""
        return any(value in names or (len(value) >= 4 and prefixed.startswith(value)) for value in values)
    if key == "scope":
        return "local" in values
    return False


def _names(event: Event, key: str) -> set[str]:
    """Return what ``event`` calls its actor of kind ``key``, or what it concerns."""
    if event.type != key:
        # `--filter image=x` also shows what happened to containers of the image.
        image = event.attributes.get("image", "") if key == "image" and event.type == "container" else ""
        other = event.attributes.get("container", "") if key == "container" else ""
        return {image, image.partition(":")[0], other} - {""}
    name = event.attributes.get("name", "")
    return {event.actor_id, name, name.partition(":")[0]} - {""}


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in attributes and (not equals or attributes[key] == value)
