"""A SPDY connection as its server sees it: streams that the client opens, each with headers, input and output."""

from collections.abc import Callable, Mapping
from typing import Final

from crid.streaming import spdy_frames as frames
from crid.streaming.inlet import Inlet
from crid.streaming.pipe import Pipe, quietly_drain
from crid.streaming.spdy_frames import Data, Frame, FrameReader, FrameWriter, Kind, ResetStatus
from sampan.errors import InvalidArgumentError

# Open at a time. Each connection through a forwarded port takes two.
MAX_STREAMS: Final = 4096

# Of a data frame that is sent, so that other streams get their turn.
_FRAME_BYTES: Final = 256 << 10

_PROTOCOL_ERROR: Final = 1  # GOAWAY's status


class SpdyStream:
    """A stream: a ``Duplex`` with headers."""

    def __init__(self, connection: "SpdyConnection", id: int, headers: Mapping[str, str]) -> None:
        self.id = id
        self.headers = headers
        self.inlet = Inlet()
        self._connection = connection
        self._finished = False

    @property
    def over(self) -> bool:
        """Whether nothing comes and nothing goes any more."""
        return self._finished and self.inlet.ended

    async def write(self, data: bytes) -> None:
        """Send ``data``."""
        for start in range(0, len(data), _FRAME_BYTES):
            if self._finished or self.inlet.broken:
                return
            piece = data[start : start + _FRAME_BYTES]
            await self._connection.send(frames.data_head(self.id, len(piece)) + piece)

    async def finish(self) -> None:
        """End the output."""
        if self._finished:
            return
        self._finished = True
        if not self.inlet.broken:
            await self._connection.send(frames.data_head(self.id, 0, fin=True))
        self._connection.forget(self)

    async def reset(self) -> None:
        """Take the stream back: neither side has more to say."""
        if self.over:
            return
        self._finished = True
        self.inlet.end(broken=True)
        await self._connection.send(frames.reset(self.id, ResetStatus.CANCEL))
        self._connection.forget(self)


class SpdyConnection:
    """Reads what the client sends, and hands it to its streams."""

    def __init__(self, pipe: Pipe, accept: Callable[[SpdyStream], bool]) -> None:
        """``accept`` is asked about each stream before the client hears of it; False refuses it."""
        self._pipe = pipe
        self._accept = accept
        self._reader = FrameReader(pipe)
        self._writer = FrameWriter()
        self._streams: dict[int, SpdyStream] = {}
        self._last_id = 0
        self._leaving = False

    async def run(self) -> None:
        """Read until the client leaves; then every stream's input has ended.

        Raises:
            InvalidArgumentError: it does not speak SPDY/3; it has been told.
        """
        try:
            while True:
                frame = await self._reader.read()
                if isinstance(frame, Data):
                    await self._take_data(frame)
                elif frame is not None:
                    await self._take_control(frame)
        except EOFError:
            return
        except InvalidArgumentError:
            await self.send(frames.go_away(self._last_id, _PROTOCOL_ERROR))
            raise
        finally:
            for stream in list(self._streams.values()):
                stream.inlet.end(broken=True)
            self._streams.clear()

    async def send(self, data: bytes) -> None:
        """Send a frame; wait while the client is far behind."""
        self._pipe.write(data)
        await quietly_drain(self._pipe)

    async def leave(self) -> None:
        """Say that all is over. What still comes is read and dropped until the client leaves, too."""
        if self._leaving:
            return
        self._leaving = True
        for stream in list(self._streams.values()):
            stream.inlet.discard()
        await self.send(frames.go_away(self._last_id))

    def forget(self, stream: SpdyStream) -> None:
        """Drop a stream that is over."""
        if stream.over:
            self._streams.pop(stream.id, None)

    async def _take_data(self, frame: Data) -> None:
        stream = self._streams.get(frame.id)
        if stream is None:
            return  # it ended here, and the client could not know
        await stream.inlet.put(frame.payload)
        if frame.fin:
            stream.inlet.end()
            self.forget(stream)

    async def _take_control(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.SYN_STREAM:
                await self._open(frame)
            case Kind.RST_STREAM:
                if (stream := self._streams.pop(frame.id, None)) is not None:
                    stream.inlet.end(broken=True)
            case Kind.PING:
                if frame.id % 2:  # the client's own; others would be answers to pings that nobody sent
                    await self.send(frames.ping(frame.id))
            case _:  # GOAWAY: the client opens no more streams, and closes the connection when the others are over
                return

    async def _open(self, frame: Frame) -> None:
        if frame.id % 2 == 0 or frame.id <= self._last_id:
            await self.send(frames.reset(frame.id, ResetStatus.PROTOCOL_ERROR))
            return
        self._last_id = frame.id
        stream = SpdyStream(self, frame.id, frame.headers or {})
        if self._leaving or len(self._streams) >= MAX_STREAMS or not self._accept(stream):
            await self.send(frames.reset(frame.id, ResetStatus.REFUSED_STREAM))
            return
        self._streams[frame.id] = stream
        if frame.fin:
            stream.inlet.end()
        await self.send(self._writer.syn_reply(frame.id))
