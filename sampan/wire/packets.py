"""Packets of output, as conmon sends them to whoever is attached: a byte that names the stream, then at most 8 KiB.

conmon writes and waits: who reads slowly slows the process down, as with Docker, and nothing is ever dropped. That also
means that a reader which does not read at all would keep conmon from noticing the process's exit; ``open_floodgate`` is
for then.
"""

import asyncio
import ctypes
import os
import socket
import time
from collections import deque
from itertools import groupby
from operator import itemgetter
from typing import Final

from sampan.resource.streams import Frame, Stream
from sampan.sys.libc import LIBC, check

_STREAMS: Final = {2: Stream.STDOUT, 3: Stream.STDERR}
_MAX_PACKET_BYTES: Final = 1 + 8192

# Stop reading when this much waits for the client, and go on when half of it is gone.
_HIGH_BYTES: Final = 2 << 20
_LOW_BYTES: Final = 1 << 20
# Give other work in the event loop a turn after this much.
_TURN_BYTES: Final = 256 << 10

# The most that ``read`` returns at once, and from what backlog on it joins packets of one stream: writes stay separate
# frames as long as the client keeps up, and cost little when it does not.
_BATCH_BYTES: Final = 256 << 10
# Output that comes in full packets is a bulk transfer: letting it gather in the socket for a moment makes few large
# batches of many small ones, and nobody notices half a millisecond there. A longer one has conmon wait, whose
# socket holds some 120 KiB. Anything smaller goes on at once.
_GATHER_NS: Final = 500_000
_GATHER_BELOW_BYTES: Final = 128 << 10
_JOIN_FROM_PACKETS: Final = 8

_SECOND_NS: Final = 1_000_000_000


class _Timer(ctypes.Structure):  # struct itimerspec
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class ShortPause:
    """A timer of the running event loop, for less than a millisecond, which asyncio's own take at least.

    For one task; close it when done. Reference: timerfd_create(2).
    """

    def __init__(self) -> None:
        self._fd = check(LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd")
        self._loop = asyncio.get_running_loop()
        self._passed: asyncio.Future[None] | None = None
        self._loop.add_reader(self._fd, self._wake)

    async def pass_ns(self, duration_ns: int) -> None:
        """Return when so many nanoseconds have passed, or ``close`` was called."""
        if self._fd < 0:
            return
        self._passed = self._loop.create_future()
        seconds, nanoseconds = divmod(duration_ns, _SECOND_NS)
        check(LIBC.timerfd_settime(self._fd, 0, ctypes.byref(_Timer(0, 0, seconds, nanoseconds)), None), "timerfd")
        await self._passed

    def _wake(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew in the same turn of the loop
            return
        self._end()

    def _end(self) -> None:
        if self._passed is not None and not self._passed.done():
            self._passed.set_result(None)

    def close(self) -> None:
        """Let it go; who waits for it goes on. Safe to repeat."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._end()


class Packets:
    """Output as it comes through one connection. Close it when done."""

    def __init__(self, connected: socket.socket) -> None:
        """Read from ``connected``, which becomes this object's, and does not block."""
        self._socket = connected
        # asyncio asks for what is registered first, and the error that says that it is not shows a whole socket.
        self._fd = connected.fileno()
        self._loop = asyncio.get_running_loop()
        self._packets: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._reading = False
        self._bounded = True
        self._bulk = False  # whether the last batch looked like a part of more
        self._changed = asyncio.Event()
        self._gathering: ShortPause | None = None
        self._resume()

    @property
    def ended(self) -> bool:
        """Whether conmon has closed the connection, or we have."""
        return self._ended

    async def read(self) -> list[Frame]:
        """Return what has come, some 256 KiB at most, after waiting for something; [] at the end."""
        frames: list[Frame] = []
        while not frames:
            if self._bulk and not self._ended and self._waiting_bytes < _GATHER_BELOW_BYTES:
                await self._gather()
            while not self._packets:
                if self._ended:
                    return []
                if not self._reading:  # output was left to gather
                    self._resume()
                self._changed.clear()
                await self._changed.wait()
            frames = self._next()
        return frames

    def _next(self, *, resume: bool = True) -> list[Frame]:
        packets, batch, size = self._packets, [], 0
        while packets and size < _BATCH_BYTES:
            packet = packets.popleft()
            size += len(packet)
            batch.append(packet)
        self._waiting_bytes -= size
        self._bulk = size >= _MAX_PACKET_BYTES
        # What comes in bulk is looked for by the next ``read``, unless it has to be read whoever reads.
        wanted = not self._bounded or (not self._bulk and self._waiting_bytes <= _LOW_BYTES)
        if resume and wanted and not self._reading and not self._ended:
            self._resume()
        return _joined(batch) if len(batch) >= _JOIN_FROM_PACKETS else _frames(batch)

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
        """Let go of the connection. Safe to repeat."""
        self._pause()
        self._ended = True
        self._socket.close()
        if self._gathering is not None:
            self._gathering.close()
            self._gathering = None
        self._changed.set()

    async def _gather(self) -> None:
        """Look away for a moment, then take everything there is; look away until ``read`` finds nothing."""
        self._pause()
        if self._gathering is None:
            self._gathering = ShortPause()
        await self._gathering.pass_ns(_GATHER_NS)
        if not self._ended:
            self._receive()

    def _resume(self) -> None:
        self._loop.add_reader(self._fd, self._receive)
        self._reading = True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _receive(self) -> None:
        receive, add = self._socket.recv, self._packets.append
        size = 0
        most = _TURN_BYTES if not self._bounded else min(_TURN_BYTES, _HIGH_BYTES - self._waiting_bytes)
        while size < most:
            try:
                packet = receive(_MAX_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._ended = True
                self._pause()
                break
            size += len(packet)
            add(packet)
        self._waiting_bytes += size
        if self._bounded and self._waiting_bytes >= _HIGH_BYTES:
            self._pause()
        self._changed.set()


def _frames(packets: list[bytes]) -> list[Frame]:
    """Return a frame for each packet that is output."""
    return [Frame(_STREAMS[one[0]], one[1:]) for one in packets if len(one) > 1 and one[0] in _STREAMS]


def _joined(packets: list[bytes]) -> list[Frame]:
    """Return a frame for neighbours of one stream."""
    joined: list[Frame] = []
    for number, some in groupby(packets, itemgetter(0)):
        if number in _STREAMS and (data := b"".join([one[1:] for one in some])):
            joined.append(Frame(_STREAMS[number], data))
    return joined
