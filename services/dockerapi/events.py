"""GET /events."""

import asyncio
from typing import Any, Final

from aiohttp import web

from dockerapi.call import Call, JsonStream
from dockerapi.routing import Route
from dockerapi.times import nanoseconds, parse_point
from sampan.api.runtime.v1 import events_pb2
from sampan.errors import SampanError
from sampan.wire.channel import rpc_errors

# The subscription is in place when the service says so. One that does not say it must not keep the client waiting.
_PLACED_S: Final = 1.0


async def events(call: Call) -> web.StreamResponse:
    """Send what has happened since ``since``, and what happens until ``until`` or for as long as somebody listens."""
    request = events_pb2.SubscribeRequest(
        since=parse_point(call.text("since"), "since"),
        until=parse_point(call.text("until"), "until"),
        filters=call.proto_filters(),
    )
    stream = JsonStream(call.request)
    call_stream = call.engine.events.Subscribe(request)
    try:
        with rpc_errors():
            # The headers say that nothing is missed from here on: clients start their work when they have them.
            placed = asyncio.ensure_future(call_stream.initial_metadata())
            await asyncio.wait({placed}, timeout=_PLACED_S)
            if not call_stream.done():
                await stream.begin()
            async for event in call_stream:
                await stream.write(event_json(event))
    except SampanError:
        if not stream.begun:
            raise
    finally:
        call_stream.cancel()
    return await stream.end()


def event_json(event: events_pb2.Event) -> dict[str, Any]:
    """Return one event; ``status``, ``id`` and ``from`` are the form it had before 1.22, which some still read."""
    attributes = dict(event.attributes)
    result: dict[str, Any] = {}
    if event.type in ("container", "image"):
        result |= {"status": event.action, "id": event.actor_id}
        if event.type == "container" and "image" in attributes:
            result["from"] = attributes["image"]
    return result | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": attributes},
        "scope": "local",
        "time": event.time.seconds,
        "timeNano": nanoseconds(event.time),
    }


ROUTES: Final = (Route("GET", "/events", events, follows=True),)
