"""GET /events."""

from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call, JsonStream, break_off
from dockerapi.http.routing import Route
from dockerapi.http.times import nanoseconds, parse_point
from sampan.api.runtime.v1 import events_pb2
from sampan.engine import following
from sampan.errors import SampanError
from sampan.log import log


async def events(call: Call) -> web.StreamResponse:
    """Send what has happened since ``since``, and what happens until ``until`` or for as long as somebody listens."""
    request = events_pb2.SubscribeRequest(
        since=parse_point(call.text("since"), "since"),
        until=parse_point(call.text("until"), "until"),
        filters=call.proto_filters(),
    )
    stream = JsonStream(call.request)
    if call.text("since") and (dropped := await following.dropped_events(call.engine, request.since)):
        # The body is events alone, and a made-up one would be taken for one that happened.
        log.warning("events that are asked for are gone", since=call.text("since"), problem=dropped)
        stream.header("Warning", f'299 - "{dropped}"')
    async with aclosing(following.events(call.engine, request)) as happening:
        try:
            async for event in happening:
                # The headers say that nothing is missed from here on: clients start their work when they have them.
                await stream.begin()
                if event is not None:
                    await stream.write(event_json(event))
        except SampanError as error:
            if not stream.begun:
                raise
            break_off(call.request, error)
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
