"""The client's side of an HTTP/2 connection, over any stream of bytes.

grpcio takes 0.1 to 0.3 ms for a message of a stream, and needs a socket; here a message costs microseconds, because
all that has come is read, parsed and handed on at once.

Reference: RFC 9113; RFC 7541 for headers, which are hpack's.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sampan.errors import SampanError, UnavailableError
from sampan.wire.http2 import frames
from sampan.wire.http2.frames import ErrorCode, FrameParser, Kind, ProtocolError, Setting
from sampan.wire.http2.protocol import ByteStream
from sampan.wire.http2.stream import WINDOW_BYTES, Headers, Stream

if TYPE_CHECKING:  # imported with the first connection: twelve milliseconds
    from hpack import Decoder, Encoder

_MAX_FRAME_BYTES: Final = 256 << 10
# The streams' windows bound what waits; the connection's must never hold back a stream because of another.
_CONNECTION_WINDOW_BYTES: Final = 64 << 20
_MAX_HEADER_BYTES: Final = 64 << 10
_TABLE_BYTES: Final = 4096
_MAX_STREAMS: Final = 1024
# What may wait to be written before senders, and then answers to what the other side sends, wait too.
_HIGH_WATER_BYTES: Final = 256 << 10
_FLOOD_BYTES: Final = 1 << 20

_ALIVE_S: Final = 5.0  # after as long a silence the other side is asked for a sign of life,
_DEAD_S: Final = 30.0  # and after as long a silence it is given up


class Connection:
    """A connection; ``run`` it, and use it meanwhile."""

    def __init__(self, carrier: ByteStream, closed: str = "the connection is closed", *, watched: bool = True) -> None:
        """``closed`` is what is said to whoever uses it when it has ended.

        ``watched``: one that is silent too long is given up. Not for servers that take questions for an attack.
        """
        self._carrier = carrier
        self._closed = closed
        self._watched = watched
        self._parser = FrameParser(_MAX_FRAME_BYTES)
        self._encoder, self._decoder = _codecs()
        self._streams: dict[int, Stream] = {}
        self._stalled: set[Stream] = set()
        self._next_number = 1
        self._send_window = frames.DEFAULT_WINDOW_BYTES
        self._received = 0  # bytes of data since the last window update
        self._peer_window = frames.DEFAULT_WINDOW_BYTES
        self._peer_frame_bytes = frames.DEFAULT_FRAME_BYTES
        self._peer_streams = _MAX_STREAMS
        self._block: tuple[int, int, bytearray] | None = None  # headers that CONTINUATION frames go on with
        self._end: SampanError | None = None  # why no stream can be opened any more
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._written = asyncio.Event()
        self._to_write = asyncio.Event()
        self._stream_over = asyncio.Event()
        self._heard_s = 0.0
        self._greet()

    def _greet(self) -> None:
        self.append(frames.PREFACE)
        self._tell_settings({Setting.ENABLE_PUSH: 0})

    def _tell_settings(self, more: Mapping[Setting, int]) -> None:
        self.append(
            frames.settings_frame(
                {
                    **more,
                    Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                    Setting.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
                    Setting.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BYTES,
                }
            )
        )
        self.append(frames.window_update(0, _CONNECTION_WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES))

    async def run(self) -> None:
        """Serve the connection until either side ends it; then it is closed, and every stream has failed.

        Raises:
            ProtocolError: the other side does not speak HTTP/2.
        """
        tasks: set[asyncio.Task[None]] = set()
        try:
            tasks = {
                asyncio.create_task(each, name=f"http2 {name}")
                for name, each in (("read", self._read()), ("write", self._write()))
            }
            if self._watched:
                tasks.add(asyncio.create_task(self._watch(), name="http2 watch"))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(OSError):  # how a connection ends that the other side drops
                    task.result()
        except ProtocolError as error:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._carrier.write(frames.goaway_frame(error.code, str(error)))
            raise
        finally:
            for task in tasks:
                task.cancel()
            self._fail(UnavailableError(self._closed))
            with suppress(OSError):
                await self._carrier.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self, headers: Headers) -> Stream:
        """Send the headers of a request, as soon as the other side takes one more, and return its stream.

        Raises:
            UnavailableError: the connection has ended.
        """
        while self._end is None and len(self._streams) >= self._peer_streams:
            self._stream_over.clear()
            await self._stream_over.wait()
        if self._end is not None:
            raise self._end
        number = self._next_number
        self._next_number += 2
        stream = Stream(self, number, self._peer_window)
        self._streams[number] = stream
        self.append_headers(number, headers, end=False)
        return stream

    # What streams ask for.

    def append(self, data: bytes) -> None:
        """Send as soon as may be."""
        if self._end is None or self._streams:
            self._outgoing.append(data)
            self._outgoing_bytes += len(data)
            self._to_write.set()

    def append_headers(self, number: int, headers: Headers, *, end: bool) -> None:
        """Send headers as soon as may be; in this order, for their compression has a state."""
        raw = [
            (name.encode(errors="surrogateescape"), value.encode(errors="surrogateescape")) for name, value in headers
        ]
        flags = frames.END_STREAM if end else 0
        self.append(frames.header_frames(number, self._encoder.encode(raw), self._peer_frame_bytes, flags))

    def room(self, stream: Stream) -> int:
        """Say how many bytes of data may go out at once."""
        if self._outgoing_bytes > _HIGH_WATER_BYTES:
            return 0
        return max(0, min(self._send_window, stream.send_window, self._peer_frame_bytes))

    def spend(self, count: int) -> None:
        """Note that so many bytes of data go out."""
        self._send_window -= count

    def stalled(self, stream: Stream) -> None:
        """Have the stream try again when there may be room."""
        self._stalled.add(stream)

    def forget(self, stream: Stream) -> None:
        """The stream has ended on both sides."""
        self._stalled.discard(stream)
        if self._streams.pop(stream.number, None) is not None:
            self._stream_over.set()

    # Three tasks.

    async def _write(self) -> None:
        while True:
            while self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                self._outgoing_bytes = 0
                self._resume()
                await self._carrier.write(data)
                self._written.set()
            self._to_write.clear()
            await self._to_write.wait()

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        while data := await self._carrier.read():
            self._heard_s = clock()
            self._take(self._parsed(data))
            while self._outgoing_bytes > _FLOOD_BYTES:  # who does not read is not read
                self._written.clear()
                await self._written.wait()

    def _parsed(self, data: bytes) -> list[frames.Frame]:
        return self._parser.feed(data)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        self._heard_s = clock()
        while (silence := clock() - self._heard_s) < _DEAD_S:
            if silence >= _ALIVE_S:
                self.append(frames.frame(Kind.PING, 0, 0, b"alive?\0\0"))
            await asyncio.sleep(_ALIVE_S)

    def _resume(self) -> None:
        stalled, self._stalled = self._stalled, set()
        for stream in stalled:
            stream.resume()

    # Frames.

    def _take(self, found: list[frames.Frame]) -> None:
        data_kind = int(Kind.DATA)
        find = self._streams.get
        for kind, flags, number, payload in found:
            if kind == data_kind and self._block is None:
                self._received += len(payload)
                stream = find(number)
                if stream is not None:  # else it was closed here
                    if payload:
                        stream.put(payload)
                    if flags & frames.END_STREAM:
                        stream.end()
                elif not number:
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "data of no stream")
            else:
                self._take_other(kind, flags, number, payload)
        # Given back at once, for each stream has a window of its own.
        if self._received >= _CONNECTION_WINDOW_BYTES // 4:
            self.append(frames.window_update(0, self._received))
            self._received = 0

    def _take_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if (self._block is not None) != (kind == Kind.CONTINUATION):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION frame is missing or misplaced")
        if kind == Kind.HEADERS:
            self._block = number, flags, bytearray(frames.header_block(flags, payload))
            self._take_block(flags)
        elif kind == Kind.CONTINUATION and self._block is not None:
            if number != self._block[0]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION frame of another stream")
            self._block[2].extend(payload)
            self._take_block(flags)
        elif kind == Kind.RST_STREAM:
            code = frames.word(payload, "RST_STREAM")
            if (stream := self._streams.get(number)) is not None:
                # After the whole answer it means that what is still being sent is not needed.
                stream.fail(UnavailableError(f"the other side broke off a call ({_name(code)})"))
        elif kind == Kind.SETTINGS:
            if not flags & frames.ACK:
                self._take_settings(dict(frames.settings(payload)))
                self.append(frames.frame(Kind.SETTINGS, frames.ACK, 0))
        elif kind == Kind.PING:
            if len(payload) != 8:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
            if not flags & frames.ACK:
                self.append(frames.frame(Kind.PING, frames.ACK, 0, payload))
        elif kind == Kind.GOAWAY:
            self._take_goaway(payload)
        elif kind == Kind.WINDOW_UPDATE:
            self._take_window(number, frames.word(payload, "WINDOW_UPDATE") & frames.MAX_WINDOW_BYTES)
        elif kind == Kind.PUSH_PROMISE:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a promise, which was forbidden")
        # PRIORITY, and what is of no known kind, is ignored: RFC 9113, sections 5.3 and 5.5.

    def _take_block(self, flags: int) -> None:
        if self._block is None:
            return
        number, first_flags, block = self._block
        if len(block) > _MAX_HEADER_BYTES:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers without end")
        if not flags & frames.END_HEADERS:
            return
        self._block = None
        headers = self._decoded(bytes(block))  # also of a stream that is closed here: the table goes on
        ended = bool(first_flags & frames.END_STREAM)
        stream = self._streams.get(number)
        if stream is None:
            self._take_request(number, headers, ended=ended)
            return
        stream.put_headers(headers, ended=ended)
        if ended:
            stream.end()

    def _take_request(self, number: int, headers: Headers, *, ended: bool) -> None:
        """Take the headers of no stream that is open here: one that was closed, as a client sees it."""

    def _decoded(self, block: bytes) -> Headers:
        from hpack import HPACKError

        try:
            return [(_text(name), _text(value)) for name, value in self._decoder.decode(block, raw=True)]
        except HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, f"headers: {error}") from error

    def _take_settings(self, values: Mapping[int, int]) -> None:
        window = values.get(Setting.INITIAL_WINDOW_SIZE, self._peer_window)
        if window > frames.MAX_WINDOW_BYTES:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {window} bytes")
        for stream in self._streams.values():
            stream.send_window += window - self._peer_window
        self._peer_window = window
        size = values.get(Setting.MAX_FRAME_SIZE, self._peer_frame_bytes)
        if not frames.DEFAULT_FRAME_BYTES <= size < 1 << 24:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frames of {size} bytes")
        self._peer_frame_bytes = size
        self._peer_streams = min(_MAX_STREAMS, values.get(Setting.MAX_CONCURRENT_STREAMS, self._peer_streams))
        if Setting.HEADER_TABLE_SIZE in values:
            self._encoder.header_table_size = min(_TABLE_BYTES, values[Setting.HEADER_TABLE_SIZE])
        self._stream_over.set()
        self._resume()

    def _take_window(self, number: int, increment: int) -> None:
        if number == 0:
            self._send_window += increment
            if not increment or self._send_window > frames.MAX_WINDOW_BYTES:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is none")
            self._resume()
        elif (stream := self._streams.get(number)) is not None:
            stream.send_window += increment
            if not increment or stream.send_window > frames.MAX_WINDOW_BYTES:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is none")
            stream.resume()

    def _take_goaway(self, payload: bytes) -> None:
        last, code, said = frames.goaway(payload)
        reason = f"{self._closed} ({said or _name(code)})" if code else self._closed
        self._end = UnavailableError(reason)
        for number, stream in list(self._streams.items()):
            if number > last:
                stream.fail(UnavailableError(reason))
        self._stream_over.set()

    def _fail(self, error: SampanError) -> None:
        self._end = self._end or error
        for stream in list(self._streams.values()):
            stream.fail(self._end)
        self._streams.clear()
        self._stream_over.set()


def _codecs() -> tuple["Encoder", "Decoder"]:
    from hpack import Decoder, Encoder

    return Encoder(), Decoder(max_header_list_size=_MAX_HEADER_BYTES)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="surrogateescape")


def _name(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else f"error {code}"
