"""GET /containers/{id}/logs."""

from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http import hijack
from dockerapi.http.call import Call, break_off, streamed
from dockerapi.http.routing import Route
from sampan.docker.times import parse_point, rfc3339_fixed
from sampan.engine import following
from sampan.engine.following import log_details
from sampan.errors import InvalidArgumentError, SampanError
from sampan.resource.streams import LogBatch, LogQuery, Stream

# What a frame begins with, before its length.
_HEADS: Final = {stream: bytes((stream.value, 0, 0, 0)) for stream in Stream}


def _query(call: Call) -> LogQuery:
    stdout, stderr, tail = call.flag("stdout"), call.flag("stderr"), call.text("tail")
    if not (stdout or stderr):
        raise InvalidArgumentError("Bad parameters: you must choose at least one stream")
    return LogQuery(
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        # Docker takes anything that is no number, "all" above others, and negative ones too, for all lines.
        tail=int(tail) if tail.isdecimal() else None,
        since_ns=parse_point(call.text("since"), "since"),
        until_ns=parse_point(call.text("until"), "until"),
    )


async def logs(call: Call) -> web.StreamResponse:
    """Send what the container wrote: framed, or raw if it has a terminal; with follow, until it stops."""
    timestamps = call.flag("timestamps")
    prefix = await log_details(call.control, call.args["id"]) if call.flag("details") else b""
    response: web.StreamResponse | None = None
    tty = False
    async with aclosing(following.logs(call.followed, call.args["id"], _query(call))) as answers:
        try:
            async for message in answers:
                if response is None:
                    tty = message.tty
                    response = await _begin(call, tty=tty)
                if message.entries:
                    await response.write(_encode(message, prefix, tty=tty, timestamps=timestamps))
        except SampanError as error:
            if response is None:
                raise
            break_off(call.request, error)
    if response is None:
        response = await _begin(call, tty=False)
    await response.write_eof()
    return response


async def _begin(call: Call, *, tty: bool) -> web.StreamResponse:
    response = streamed(hijack.content_type(call.version, tty=tty))
    await response.prepare(call.request)
    return response


def _encode(message: LogBatch, prefix: bytes, *, tty: bool, timestamps: bool) -> bytes:
    parts: list[bytes] = []
    if not (prefix or tty or timestamps):  # the way of most: nothing is looked at twice
        first, second, stdout = _HEADS[Stream.STDOUT], _HEADS[Stream.STDERR], Stream.STDOUT
        for stream, _, line in message.entries:
            parts += (first if stream is stdout else second, len(line).to_bytes(4, "big"), line)
        return b"".join(parts)
    for entry in message.entries:
        line = prefix + entry.line
        if timestamps:
            line = f"{rfc3339_fixed(entry.time_ns)} ".encode() + line
        parts.append(line if tty else hijack.framed(entry.stream.value, line))
    return b"".join(parts)


ROUTES: Final = (Route("GET", "/containers/{id}/logs", logs, follows=True),)
