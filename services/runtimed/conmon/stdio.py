"""One connection to the standard streams that a conmon keeps.

conmon's attach socket carries packets: a byte that names the stream, then at most 8 KiB of output. conmon writes to it
and waits: a client that reads slowly slows the process down, as with Docker, and nothing is ever dropped. That also
means that a client which does not read at all would keep conmon from noticing the process's exit; ``open_floodgate``
is for then.
"""

import asyncio
import socket
from collections import deque
from pathlib import Path
from typing import Final

from sampan.errors import ConflictError
from sampan.resource.streams import Frame, Stream

_STREAMS: Final = {2: Stream.STDOUT, 3: Stream.STDERR}
_MAX_PACKET_BYTES: Final = 1 + 8192
_MAX_STDIN_BYTES: Final = 8192  # conmon reads packets of this size; more would be cut off

# Stop reading when this much waits for the client, and go on when half of it is gone.
_HIGH_BYTES: Final = 2 << 20
_LOW_BYTES: Final = 1 << 20
# Give other work in the event loop a turn after this much.
_TURN_BYTES: Final = 256 << 10

# The most that ``read`` returns at once, and from what backlog on it joins packets of one stream: writes stay separate
# frames as long as the client keeps up, and cost little when it does not.
_BATCH_BYTES: Final = 256 << 10
# Output that comes in full packets is a bulk transfer: letting it gather in the socket for a moment makes few large
# batches of many small ones, and nobody notices a millisecond there. Anything smaller goes on at once.
_GATHER_S: Final = 0.001
_GATHER_BELOW_BYTES: Final = 128 << 10
_JOIN_FROM_FRAMES: Final = 8


class StdioConnection:
    """Output as it comes, and a way for input. Made by ``connect``; close it when done."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._frames: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._reading = False
        self._bounded = True
        self._stdin_open = True
        self._bulk = False  # whether the last batch looked like a part of more
        self._changed = asyncio.Event()
        self._resume()

    @classmethod
    def connect(cls, path: Path) -> "StdioConnection":
        """Connect to conmon's socket at ``path``.

        Raises:
            ConflictError: nobody listens: the process has ended.
        """
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connected.connect(str(path))
        except OSError as error:
            connected.close()
            raise ConflictError(f"the process has ended: {error.strerror}") from error
        return cls(connected)

    @property
    def ended(self) -> bool:
        """Whether conmon has closed the connection, or we have."""
        return self._ended

    async def read(self) -> list[Frame]:
        """Return what has come, at most 256 KiB or one frame, after waiting for something; [] at the end."""
        if self._bulk and not self._ended and self._waiting_bytes < _GATHER_BELOW_BYTES:
            await self._gather()
        while not self._frames:
            if self._ended:
                return []
            if not self._reading:  # a reader was cancelled while it let output gather
                self._resume()
            self._changed.clear()
            await self._changed.wait()
        batch: list[Frame] = []
        size = 0
        while self._frames and (not batch or size + len(self._frames[0].data) <= _BATCH_BYTES):
            frame = self._frames.popleft()
            size += len(frame.data)
            batch.append(frame)
        self._waiting_bytes -= size
        self._bulk = size >= _MAX_PACKET_BYTES - 1
        if not self._reading and not self._ended and self._waiting_bytes <= _LOW_BYTES:
            self._resume()
        return _joined(batch) if len(batch) >= _JOIN_FROM_FRAMES else batch

    async def write(self, data: bytes) -> None:
        """Pass ``data`` to the process's stdin, waiting while it does not read. Lost if the process has ended."""
        view = memoryview(data)
        while view and self._stdin_open:
            try:
                self._socket.send(view[:_MAX_STDIN_BYTES])
            except BlockingIOError:
                await self._writable()
            except OSError:
                self._stdin_open = False
            else:
                view = view[_MAX_STDIN_BYTES:]

    def close_stdin(self) -> None:
        """Tell conmon that no more input comes from here; output goes on."""
        if self._stdin_open:
            self._stdin_open = False
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._changed.set()  # the other end is gone, which reading notices too

    def open_floodgate(self) -> None:
        """Read on whatever the client does: the process has ended, so what comes is bounded by the pipes' sizes."""
        self._bounded = False
        if not self._reading and not self._ended:
            self._resume()

    async def drain(self) -> None:
        """Read to the end and forget what comes."""
        while await self.read():
            pass

    def close(self) -> None:
        """Disconnect; conmon takes it for end of stdin. Safe to repeat."""
        self._pause()
        self._ended = True
        self._socket.close()
        self._changed.set()

    async def _gather(self) -> None:
        """Look away for a moment, then take everything there is."""
        self._pause()
        await asyncio.sleep(_GATHER_S)
        if not self._ended:
            self._resume()
            self._receive()

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(self._socket)

    def _resume(self) -> None:
        self._loop.add_reader(self._socket, self._receive)
        self._reading = True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._socket)
            self._reading = False

    def _receive(self) -> None:
        turn = 0
        while turn < _TURN_BYTES:
            try:
                packet = self._socket.recv(_MAX_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._ended = True
                self._pause()
                break
            turn += len(packet)
            stream = _STREAMS.get(packet[0])
            if stream is not None and len(packet) > 1:
                self._frames.append(Frame(stream, packet[1:]))
                self._waiting_bytes += len(packet) - 1
            if self._bounded and self._waiting_bytes >= _HIGH_BYTES:
                self._pause()
                break
        self._changed.set()


def _joined(frames: list[Frame]) -> list[Frame]:
    """Join neighbours of one stream."""
    joined: list[Frame] = []
    pieces: list[bytes] = []
    stream = frames[0].stream
    for frame in frames:
        if frame.stream is not stream:
            joined.append(Frame(stream, b"".join(pieces)))
            pieces, stream = [], frame.stream
        pieces.append(frame.data)
    joined.append(Frame(stream, b"".join(pieces)))
    return joined
