"""One stream of a connection: what has come on it and was not taken, and how much it may still send.

Reference: RFC 9113, section 5.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from sampan.errors import SampanError
from sampan.wire.http2.frames import END_STREAM, ErrorCode, Kind, ProtocolError, frame, rst_stream, window_update

# What may come and wait to be taken: 25 MB a second over a line of 20 ms. Of a walk's small messages that is thousands,
# each an object until it is looked at; with four times as much, 30,000 files left 41 MB with the builder instead of 38.
WINDOW_BYTES: Final = 512 << 10

# Names are lower-case, and may be there several times. What is not UTF-8 is as ``os.fsdecode`` has it.
Headers = Sequence[tuple[str, str]]


class Carrier(Protocol):
    """The connection, as its streams see it."""

    def append(self, data: bytes) -> None:
        """Send a frame as soon as may be."""

    def append_headers(self, number: int, headers: Headers, *, end: bool) -> None:
        """Send headers as soon as may be."""

    def room(self, stream: "Stream") -> int:
        """Say how many bytes of data may go out at once."""

    def spend(self, count: int) -> None:
        """Note that so many bytes of data go out."""

    def stalled(self, stream: "Stream") -> None:
        """Have ``stream.resume`` called when there may be room again."""

    def forget(self, stream: "Stream") -> None:
        """The stream has ended on both sides."""


class Stream:
    """A request and its answer. ``close`` it, whatever happened."""

    def __init__(self, carrier: Carrier, number: int, send_window: int, *, serves: bool = False) -> None:
        """``serves``: the request came from the other side, and may be whole before it is answered."""
        self.number = number
        self.when_broken: Callable[[], None] | None = None  # called if the other side breaks it off, or is gone
        self._serves = serves
        self.send_window = send_window
        self.headers: Headers | None = None  # those before the data; none if there are trailers only
        self.trailers: Headers | None = None
        self._carrier = carrier
        self._chunks: list[bytes] = []
        self._waiting = 0  # bytes in them
        self._taken = 0  # bytes taken since the last window update
        self._error: SampanError | None = None
        self._remote_ended = False
        self._deaf = False
        self._local_ended = False
        self._arrived = asyncio.Event()
        self._resumed = asyncio.Event()

    @property
    def answered(self) -> bool:
        """Whether the other side has said all it will, or the stream is broken."""
        return self._remote_ended or self._error is not None

    # What the connection reports.

    def put(self, data: bytes) -> None:
        """Take data that came. Raises ProtocolError if it is more than was allowed, or comes after the end."""
        if self._remote_ended:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "data after the end of a stream")
        if self._deaf:
            return
        self._chunks.append(data)
        self._waiting += len(data)
        if self._waiting + self._taken > WINDOW_BYTES:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        self._arrived.set()

    def put_headers(self, headers: Headers, *, ended: bool) -> None:
        """Take headers: the first, or what follows the data."""
        if self._remote_ended:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "headers after the end of a stream")
        if ended:
            self.trailers = headers
        elif self.headers is None:
            if not dict(headers).get(":status", "").startswith("1"):  # those are followed by the real ones
                self.headers = headers
                self._arrived.set()
        else:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers amid a stream")

    def end(self) -> None:
        """Note that no more comes."""
        self._remote_ended = True
        self._arrived.set()
        self._resumed.set()
        self._forget_if_over()

    def fail(self, error: SampanError) -> None:
        """Break the stream off, or only what is still sent if all was received. What has come can still be taken."""
        if (self._serves or not self._remote_ended) and self._error is None:
            self._error = error
        self._local_ended = True
        self._arrived.set()
        self._resumed.set()
        self._carrier.forget(self)
        if self.when_broken is not None:
            self.when_broken()

    def resume(self) -> None:
        """Try again to send."""
        self._resumed.set()

    # What the caller does.

    async def head(self) -> Headers | None:
        """Return the headers before the data; None if trailers are all there is.

        Raises:
            SampanError: what broke the stream off.
        """
        while self.headers is None and not self._remote_ended:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        return self.headers

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Send headers, or trailers at the ``end``; nothing if the stream is over."""
        if self._local_ended or self._error is not None:
            return
        self._carrier.append_headers(self.number, headers, end=end)
        if end:
            self._local_ended = True
            self._forget_if_over()

    async def take(self) -> list[bytes]:
        """Return what has come, something at least; nothing when the other side has ended.

        Raises:
            SampanError: what broke the stream off, after all that came before.
        """
        while not self._chunks:
            if self._remote_ended or self._deaf:
                return []
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        chunks, self._chunks = self._chunks, []
        self._taken += self._waiting
        self._waiting = 0
        if self._taken >= WINDOW_BYTES // 2 and not self.answered:
            self._carrier.append(window_update(self.number, self._taken))
            self._taken = 0
        return chunks

    def take_no_more(self) -> None:
        """Drop what has come and comes: ``take`` returns nothing from here on."""
        self._deaf = True
        self._chunks.clear()
        self._arrived.set()

    async def send(self, data: bytes, *, end: bool = False) -> bool:
        """Send ``data`` as fast as the other side takes it; ``end``: and nothing after it.

        Returns whether it was sent: what the other side has answered already cannot be.

        Raises:
            SampanError: what broke the stream off.
        """
        view = memoryview(data)
        while True:
            if self._error is not None:
                raise self._error
            if self._local_ended or (self._remote_ended and not self._serves):
                return False
            room = self._carrier.room(self)
            if view and not room:
                self._resumed.clear()
                self._carrier.stalled(self)
                await self._resumed.wait()
                continue
            piece = bytes(view[:room])
            view = view[room:]
            self.send_window -= len(piece)
            self._carrier.spend(len(piece))
            self._carrier.append(frame(Kind.DATA, END_STREAM if end and not view else 0, self.number, piece))
            if not view:
                break
        if end:
            self._local_ended = True
            self._forget_if_over()
        return True

    def close(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Let go of the stream; the other side is told if either has not ended. Safe to repeat."""
        over = self._error is not None or (self._remote_ended and self._local_ended)
        if not over:
            self._carrier.append(rst_stream(self.number, ErrorCode.NO_ERROR if self._remote_ended else code))
        self._local_ended = self._remote_ended = True
        self._chunks.clear()
        self._arrived.set()
        self._resumed.set()
        self._carrier.forget(self)

    def _forget_if_over(self) -> None:
        if self._remote_ended and self._local_ended:
            self._carrier.forget(self)
