"""GET /events."""

import contextlib
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call, JsonStream, break_off
from dockerapi.http.routing import Route
from dockerapi.http.versions import Version
from sampan.docker.times import parse_point
from sampan.docker.views.event_view import event_json
from sampan.engine import following
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.event import Event

_JSON: Final = "application/json"
_SEQUENCE: Final = "application/json-seq"  # RFC 7464: a record separator before each value
_LINES: Final = ("application/jsonl", "application/x-ndjson")


def _content_type(call: Call) -> str:
    """Return which of the forms the client would rather have; what it has no opinion of is ``application/json``."""
    if call.version < (1, 52):
        return _JSON
    wanted = []
    for part in call.request.headers.get("Accept", "").split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        with contextlib.suppress(ValueError):
            wanted.append((float(quality), kind))
    known = (_JSON, _SEQUENCE, *_LINES)
    rated = [(quality, kind) for quality, kind in wanted if kind in known and quality > 0]
    return max(rated, key=lambda each: each[0])[1] if rated else _JSON


def _is_known(event: Event, version: Version) -> bool:
    """Whether a version has such an event: images that are made, and not pulled, were told of from 1.46 on."""
    return version >= (1, 46) or (event.type, event.action) != ("image", "create")


async def events(call: Call) -> web.StreamResponse:
    """Send what has happened since ``since``, and what happens until ``until`` or for as long as somebody listens."""
    since_ns = parse_point(call.text("since"), "since")
    told = following.events(
        call.followed,
        since_ns=since_ns,
        until_ns=parse_point(call.text("until"), "until"),
        filters=call.chosen(),
        owner=call.backend.shown_owner,
    )
    content_type = _content_type(call)
    lead = b"\x1e" if content_type == _SEQUENCE else b""
    stream = JsonStream(call.request, content_type=content_type, lead=lead)
    if call.text("since") and (dropped := await following.dropped_events(call.followed, since_ns)):
        # The body is events alone, and a made-up one would be taken for one that happened.
        log.warning("events that are asked for are gone", since=call.text("since"), problem=dropped)
        stream.header("Warning", f'299 - "{dropped}"')
    async with aclosing(told) as happening:
        try:
            async for event in happening:
                # The headers say that nothing is missed from here on: clients start their work when they have them.
                await stream.begin()
                if event is not None and _is_known(event, call.version):
                    await stream.write(event_json(event, call.version))
        except SampanError as error:
            if not stream.begun:
                raise
            break_off(call.request, error)
    return await stream.end()


ROUTES: Final = (Route("GET", "/events", events, follows=True),)
