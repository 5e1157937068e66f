"""Events as clients are offered them."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

from runtimed.events import Events
from sampan.resource.event import Event
from sampan.resource.listing import NO_FILTERS, Filters


class LocalEvents:
    """Satisfies ``resource.protocols.Events``; subscriptions end when the service stops."""

    def __init__(self, events: Events, stopping: asyncio.Event) -> None:
        self._events = events
        self._stopping = stopping

    def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when the subscription is in place, past events, then live ones."""
        return self._events.subscribe(since_ns, until_ns, filters, self._stopping)

    async def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept, 0 if none has been dropped."""
        return self._events.kept_since_ns()

    async def publish(self, events: Iterable[Event]) -> None:
        """Tell what another service did."""
        for event in events:
            self._events.publish(event)
