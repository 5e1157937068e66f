"""A body in HTTP/1.1's chunks, read from a client's socket and written to it by whoever has the bytes.

The socket is another process's, which answers the request; it does not block, and what is waited for here is the
client alone. Reference: RFC 9112, section 7.1.
"""

import errno
import os
import re
import select
from typing import Final

from sampan.errors import InvalidArgumentError

_BUFFER_BYTES: Final = 256 << 10
_LINE_BYTES: Final = 4 << 10
_TRAILERS: Final = 256
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r\n", re.DOTALL)
# Clients may count a chunk's bytes in 32 bits.
_CHUNK_BYTES: Final = 64 << 20
_ZEROS: Final = bytes(64 << 10)


class ChunkedReader:
    """What is in the chunks; nothing after the last one is anybody's."""

    def __init__(self, fd: int, begun: bytes = b"") -> None:
        """Read from ``fd``, a stream socket, what follows ``begun``."""
        self._fd = fd
        self._bytes = bytearray(max(_BUFFER_BYTES, len(begun)))
        self._buffer = memoryview(self._bytes)
        self._buffer[: len(begun)] = begun
        self._begin, self._end = 0, len(begun)  # of what was received and not read
        self._left = 0  # of a chunk
        self._in_chunk = False  # its end, CR LF, was not read
        self._over = False

    def read(self, size: int, /) -> memoryview:
        """Return 1 to ``size`` bytes, good until the next call; none at the end.

        Raises:
            InvalidArgumentError: it is cut short, or these are no chunks.
        """
        if not self._left and not self._over:
            self._next()
        if not self._left or not size:
            return self._buffer[:0]
        if self._begin == self._end:
            self._receive()
        begin = self._begin
        count = min(size, self._left, self._end - begin)
        self._begin += count
        self._left -= count
        return self._buffer[begin : begin + count]

    def _next(self) -> None:
        """Go to the next chunk."""
        if self._in_chunk and self._line() != b"\r\n":
            raise InvalidArgumentError("the request's body has a chunk that is longer than it says")
        found = _SIZE.fullmatch(self._line())
        if found is None:
            raise InvalidArgumentError("the request's body has a chunk without a size")
        self._left = int(found[1], 16)
        self._in_chunk = True
        if not self._left:
            self._over = True
            for _ in range(_TRAILERS):
                if self._line() == b"\r\n":
                    return
            raise InvalidArgumentError("the request's body has too many trailers")

    def _line(self) -> bytes:
        while (end := self._bytes.find(b"\n", self._begin, self._end)) < 0:
            if self._end - self._begin > _LINE_BYTES:
                raise InvalidArgumentError("the request's body has a chunk without a size")
            if self._begin:
                rest = bytes(self._buffer[self._begin : self._end])
                self._buffer[: len(rest)] = rest
                self._begin, self._end = 0, len(rest)
            self._receive()
        line = bytes(self._buffer[self._begin : end + 1])
        self._begin = end + 1
        return line

    def _receive(self) -> None:
        """Receive some more behind what is there."""
        if self._begin == self._end:
            self._begin = self._end = 0
        while True:
            try:
                count = os.readv(self._fd, (self._buffer[self._end :],))
                break
            except BlockingIOError:
                _wait(self._fd, select.POLLIN)
        if not count:
            raise InvalidArgumentError("the request's body ends too early")
        self._end += count


class PlainWriter:
    """Writes bytes, and files' own, to a descriptor that may not block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Write, at the latest with ``flush``. Raises OSError: the reader is gone."""
        self._pending.append(piece)
        self._size += len(piece)
        if self._size >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Have all written that is not."""
        if self._size:
            self._send(self._taken(0))
            self._send(self._END)

    def file(self, fd: int, size: int) -> None:
        """Write ``size`` bytes of a file from where it is read next, zeros for those that it has not any more.

        Raises:
            OSError: it cannot be read, or the reader is gone.
        """
        while size:
            some = min(size, _CHUNK_BYTES)
            self._send(self._taken(some))
            self._pass(fd, some)
            self._send(self._END)
            size -= some

    _END: bytes = b""

    def _head(self, _size: int, /) -> bytes:
        """Return what stands before so many bytes."""
        return b""

    def _taken(self, more: int) -> bytes:
        """Return what is pending, behind the head of it and of so many bytes more."""
        taken = b"".join((self._head(self._size + more), *self._pending))
        self._pending.clear()
        self._size = 0
        return taken

    def _pass(self, fd: int, size: int) -> None:
        while size:
            try:
                count = os.sendfile(self._fd, fd, None, size)
            except BlockingIOError:
                _wait(self._fd, select.POLLOUT)
                continue
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot
                    raise
                piece = os.read(fd, min(size, _BUFFER_BYTES))
                self._send(piece)
                count = len(piece)
            if not count:
                self._send(_ZEROS[:size])
                count = min(size, len(_ZEROS))
            size -= count

    def _send(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                _wait(self._fd, select.POLLOUT)


class ChunkedWriter(PlainWriter):
    """Puts it into chunks. The last one, which is empty, is for whoever answers the request."""

    _END = b"\r\n"

    def _head(self, size: int, /) -> bytes:
        return b"%x\r\n" % size


def _wait(fd: int, events: int) -> None:
    poll = select.poll()
    poll.register(fd, events)
    poll.poll()
