"""Where the audit log goes: a file that is rotated, syslog, or journald. Each takes a line, or says why not.

A line is some hundred bytes into the page cache or a datagram socket that never waits: less than handing it to a
thread would cost.
"""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError

_NAME: Final = "sampan-audit"
_SYSLOG: Final = Path("/dev/log")
_JOURNAL: Final = Path("/run/systemd/journal/socket")
_AUTHPRIV_NOTICE: Final = 10 * 8 + 5  # RFC 3164: facility and severity


class Sink(Protocol):
    """Takes lines."""

    def write(self, line: str) -> None:
        """Take a line, without its end. OSError: it is not written, and nothing of it is."""

    def reopen(self) -> None:
        """Forget what was open: somebody may have moved it."""

    def close(self) -> None:
        """Let go."""


class FileSink:
    """A file, its owner's alone; beyond ``max_bytes`` it becomes ``<name>.1``, and what was that ``.2``."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd = -1
        self._size = 0

    def write(self, line: str) -> None:
        """See ``Sink``."""
        data = f"{line}\n".encode(errors="replace")
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        written = os.write(self._fd, data)
        if written < len(data):  # the disk is full: half a line is no line
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._size += written

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        if self._keep:
            self._path.rename(self._numbered(1))
        else:
            self._path.unlink()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def reopen(self) -> None:
        """See ``Sink``."""
        self.close()

    def close(self) -> None:
        """See ``Sink``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DatagramSink:
    """syslog's or journald's socket."""

    def __init__(self, path: Path, *, journal: bool) -> None:
        self._path = path
        self._journal = journal
        self._socket: socket.socket | None = None

    def write(self, line: str) -> None:
        """See ``Sink``."""
        if self._journal:
            text = f"MESSAGE={line}\nPRIORITY=5\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER={_NAME}\n"
        else:
            text = f"<{_AUTHPRIV_NOTICE}>{_NAME}[{os.getpid()}]: {line}"
        try:
            self._connected().send(text.encode(errors="replace"))
        except OSError:
            self.close()  # it may have been started anew
            self._connected().send(text.encode(errors="replace"))

    def _connected(self) -> socket.socket:
        if self._socket is None:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                one.connect(str(self._path))
            except OSError:
                one.close()
                raise
            self._socket = one
        return self._socket

    def reopen(self) -> None:
        """See ``Sink``."""
        self.close()

    def close(self) -> None:
        """See ``Sink``."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def make_sink(kind: str, path: Path, max_bytes: int, keep: int) -> Sink:
    """Return the sink of ``audit``. InvalidArgumentError for one that is none, or numbers that make no sense."""
    if kind == "file":
        if max_bytes < 4096 or keep < 0:
            raise InvalidArgumentError("audit_max_bytes is at least 4096, and audit_files at least 0")
        if not path.is_absolute():
            raise InvalidArgumentError(f"audit_file: {str(path)!r} is not absolute")
        return FileSink(path, max_bytes, keep)
    if kind in ("syslog", "journald"):
        return DatagramSink(_JOURNAL if kind == "journald" else _SYSLOG, journal=kind == "journald")
    raise InvalidArgumentError(f"audit: {kind!r} is neither off, file, syslog nor journald")
