"""``sampan.runtime.v1.Events``: decode, one call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from sampan.api.runtime.v1 import events_pb2 as pb
from sampan.api.runtime.v1 import events_pb2_grpc
from sampan.client.convert.codec import ns_to_timestamp, timestamp_ns
from sampan.client.convert.containers import filters_from_proto
from sampan.client.convert.events import EVENT
from sampan.resource.protocols import Events

Context = grpc.aio.ServicerContext[Any, Any]


class EventsServicer(events_pb2_grpc.EventsServicer):
    """Events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.Event]:
        """Yield past events, then live ones."""
        events = self._events.subscribe(
            since_ns=timestamp_ns(request.since),
            until_ns=timestamp_ns(request.until),
            filters=filters_from_proto(request.filters),
            owner=request.owner,
        )
        async with aclosing(events):
            async for event in events:
                if event is not None:
                    yield EVENT.encode(event)
                else:
                    # Clients begin what they want to hear of when they know that they will; the first event may be
                    # long in coming.
                    await context.send_initial_metadata(())

    async def Kept(self, request: pb.KeptRequest, context: Context) -> pb.KeptResponse:
        """Say how far back events are kept."""
        since_ns = await self._events.kept_since_ns()
        return pb.KeptResponse(since=ns_to_timestamp(since_ns) if since_ns else None)

    async def Publish(self, request: pb.PublishRequest, context: Context) -> pb.PublishResponse:
        """Tell what another service did."""
        await self._events.publish(EVENT.decode_all((request.event, *request.further)))
        return pb.PublishResponse()
