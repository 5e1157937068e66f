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

_KEPT_LENGTHS: Final = 1024


class _Heads(dict[int, bytes]):
    """What the frames of a stream begin with, by the length of what is in them: most lines of a log are of a few."""

    def __init__(self, stream: Stream, more: int) -> None:
        """The length in the head is greater by ``more``."""
        self._begin, self._more = bytes((stream.value, 0, 0, 0)), more

    def __missing__(self, length: int) -> bytes:
        head = self._begin + (length + self._more).to_bytes(4, "big")
        if length < _KEPT_LENGTHS:
            self[length] = head
        return head


_WHOLE: Final = {stream: _Heads(stream, 1) for stream in Stream}  # of lines without their newline
_PIECES: Final = {stream: _Heads(stream, 0) for stream in Stream}


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
        joined=True,
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
    """Return entries as they are sent: each line in a frame of its own, unless the container has a terminal."""
    parts: list[bytes] = []
    for stream, time_ns, text in message.entries:
        before = (f"{rfc3339_fixed(time_ns)} ".encode() if timestamps else b"") + prefix
        lines, end = (text[:-1].split(b"\n"), b"\n") if text.endswith(b"\n") else ([text], b"")
        if before:
            lines = [before + line for line in lines]
        if not tty:
            heads = _WHOLE[stream] if end else _PIECES[stream]
            lines = [heads[len(line)] + line for line in lines]
        parts.append(end.join(lines) + end)
    return b"".join(parts)


ROUTES: Final = (Route("GET", "/containers/{id}/logs", logs, follows=True),)
