"""What becomes of pods and their containers, told as it happens: runtimed's events of containers, and sandboxes' own.

Who does not keep up is told so: a stream with gaps would be taken for one without, and its end has kubelet look anew.
"""

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from crid.containers.model import Record
from crid.sandboxes.model import Sandbox, State
from sampan.errors import NotFoundError, ResourceExhaustedError
from sampan.resource.event import Event

_BACKLOG: Final = 1000


class Kind(enum.Enum):
    """CRI's words."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


# runtimed's words, which are Docker's.
_ACTIONS: Final = {"create": Kind.CREATED, "start": Kind.STARTED, "die": Kind.STOPPED, "destroy": Kind.DELETED}
_STATES: Final = {State.READY: (Kind.CREATED, Kind.STARTED), State.STOPPED: (Kind.STOPPED,), None: (Kind.DELETED,)}


@dataclass(frozen=True, slots=True)
class PodEvent:
    """One thing that happened."""

    id: str  # of a container, or of a sandbox
    sandbox: str
    kind: Kind
    time_ns: int


class ContainerRecords(Protocol):
    """Containers; ``containers.store`` says what it promises."""

    def get(self, id: str) -> Record:
        """Return one by its ID."""

    def named(self, name: str) -> Record | None:
        """Return one by its name."""

    def all(self) -> Iterable[Record]:
        """Yield all."""


# Yields None when nothing will be missed any more, then what happens to pods' containers.
Follow = Callable[[], AsyncGenerator[Event | None, None]]


class PodEvents:
    """Events of pods, for all who listen. For one event loop."""

    def __init__(
        self, follow: Follow, records: ContainerRecords, sandboxes: Iterable[Sandbox], now_ns: Callable[[], int]
    ) -> None:
        """``sandboxes`` are those that there are; the others are told by ``changed``."""
        self._follow = follow
        self._records = records
        self._now_ns = now_ns
        self._told = {each.id for each in sandboxes if each.state is not State.CREATING}
        self._listeners: set[asyncio.Queue[PodEvent | None]] = set()

    def changed(self, sandbox: Sandbox, state: State | None) -> None:
        """Tell what has become of a sandbox. One that never was ready was nobody's."""
        if state is State.READY:
            self._told.add(sandbox.id)
        if sandbox.id not in self._told:
            return
        if state is None:
            self._told.discard(sandbox.id)
        if state is State.STOPPED and sandbox.state is State.STOPPED:
            return
        for kind in _STATES.get(state, ()):
            for listener in self._listeners:
                _tell(listener, PodEvent(sandbox.id, sandbox.id, kind, self._now_ns()))

    async def subscribe(self) -> AsyncGenerator[PodEvent | None, None]:
        """Yield None when the subscription is in place, then events. Closing the iterator ends it.

        Raises:
            ResourceExhaustedError: the listener does not keep up.
            UnavailableError: runtimed is gone, and does not come back.
        """
        listener: asyncio.Queue[PodEvent | None] = asyncio.Queue(_BACKLOG + 1)
        placed = asyncio.Event()
        following = asyncio.create_task(self._pass_on(listener, placed), name="events of pods' containers")
        self._listeners.add(listener)
        try:
            waiting = asyncio.create_task(placed.wait())
            await asyncio.wait([waiting, following], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            yield None
            while True:
                getting = asyncio.create_task(listener.get(), name="next event of a pod")
                try:
                    await asyncio.wait([getting, following], return_when=asyncio.FIRST_COMPLETED)
                    if not getting.done():
                        following.result()  # raises what has ended it
                        return
                    event = getting.result()
                finally:
                    getting.cancel()
                if event is None:
                    raise ResourceExhaustedError(f"more than {_BACKLOG} events were not read: look anew, and ask again")
                yield event
        finally:
            self._listeners.discard(listener)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _pass_on(self, listener: asyncio.Queue[PodEvent | None], placed: asyncio.Event) -> None:
        known = {record.id: record.sandbox for record in self._records.all()}
        async with aclosing(self._follow()) as events:
            async for event in events:
                if event is None:
                    placed.set()
                    continue
                kind = _ACTIONS.get(event.action)
                if kind is None or event.type != "container":
                    continue
                if event.actor_id not in known and (record := self._record(event)) is not None:
                    known[event.actor_id] = record.sandbox
                if (sandbox := known.get(event.actor_id)) is not None:  # else it holds a pod's namespace
                    _tell(listener, PodEvent(event.actor_id, sandbox, kind, event.time_ns))
                if kind is Kind.DELETED:
                    known.pop(event.actor_id, None)

    def _record(self, event: Event) -> Record | None:
        with suppress(NotFoundError):
            return self._records.get(event.actor_id)
        # One that is being made has no ID yet.
        return self._records.named(event.attributes.get("name", ""))


def _tell(listener: asyncio.Queue[PodEvent | None], event: PodEvent) -> None:
    if listener.qsize() < _BACKLOG:
        listener.put_nowait(event)
    elif not listener.full():
        listener.put_nowait(None)
