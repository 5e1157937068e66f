"""Client of ``sampan.runtime.v1.Events``."""

from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Final

import grpc

from sampan.api.runtime.v1 import events_pb2 as pb
from sampan.api.runtime.v1.events_pb2_grpc import EventsStub
from sampan.client.convert.codec import ns_to_timestamp, timestamp_ns
from sampan.client.convert.containers import filters_to_proto
from sampan.client.convert.events import EVENT
from sampan.resource.event import Event
from sampan.resource.listing import NO_FILTERS, Filters
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import batches, size_of

if TYPE_CHECKING:
    from sampan.api.runtime.v1.events_pb2_grpc import EventsAsyncStub

# Publishing is beside the point of whoever does it: nobody waits for long.
_PUBLISH_S: Final = 5.0


class EventsClient:
    """Satisfies ``resource.protocols.Events``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: EventsAsyncStub = EventsStub(channel)

    async def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when the subscription is in place, then events."""
        request = pb.SubscribeRequest(
            since=ns_to_timestamp(since_ns) if since_ns else None,
            until=ns_to_timestamp(until_ns) if until_ns else None,
            filters=filters_to_proto(filters),
            owner=owner,
        )
        call = self._stub.Subscribe(request)
        try:
            with rpc_errors():
                await call.initial_metadata()
                # A call that was refused has metadata, too; one with no more to tell may have ended by now.
                if not call.done() or await call.code() is grpc.StatusCode.OK:
                    yield None
                async for event in call:
                    yield EVENT.decode(event)
        finally:
            call.cancel()

    async def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept, 0 if none has been dropped."""
        with rpc_errors():
            return timestamp_ns((await self._stub.Kept(pb.KeptRequest())).since)

    async def publish(self, events: Iterable[Event]) -> None:
        """Record what another service did."""
        for first, *further in batches(EVENT.encode_all(events), size_of):
            with rpc_errors():
                request = pb.PublishRequest(event=first, further=further)
                await self._stub.Publish(request, timeout=_PUBLISH_S)
