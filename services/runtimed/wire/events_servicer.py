"""``sampan.runtime.v1.Events`` over the core."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc

from runtimed.events import Event, Events
from runtimed.wire import convert
from sampan.api.runtime.v1 import events_pb2 as pb
from sampan.api.runtime.v1 import events_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EventsServicer(events_pb2_grpc.EventsServicer):
    """Decodes, makes one call, encodes."""

    def __init__(self, events: Events, stopping: asyncio.Event) -> None:
        self._events = events
        self._stopping = stopping

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.Event]:
        """Yield past events, then live ones."""
        events = self._events.subscribe(
            convert.time_ns(request.since),
            convert.time_ns(request.until),
            convert.filters_from_proto(request.filters),
            self._stopping,
        )
        first = asyncio.create_task(_next(events), name="first event")
        try:
            await asyncio.sleep(0)  # that task's first step puts the subscription in place
            # Clients begin what they want to hear of when they know that; the first event may be long in coming.
            await context.send_initial_metadata(())
            event = await first
            while event is not None:
                yield convert.event_to_proto(event)
                event = await _next(events)
        finally:
            first.cancel()
            await asyncio.wait({first})
            await events.aclose()

    async def Publish(self, request: pb.PublishRequest, context: Context) -> pb.PublishResponse:
        """Tell what another service did."""
        for event in (request.event, *request.further):
            self._events.publish(convert.event_from_proto(event))
        return pb.PublishResponse()


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)
