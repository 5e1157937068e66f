"""The services' log files: shown on the terminal as they grow, and kept from growing without bound."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

# A log and the one before it, per service.
MAX_LOG_BYTES: Final = 10 << 20

_PIECE_BYTES: Final = 64 << 10

# From <sys/inotify.h>.
_IN_MODIFY: Final = 0x002
_IN_CLOEXEC: Final = os.O_CLOEXEC
_IN_NONBLOCK: Final = os.O_NONBLOCK
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, operand: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), operand)
    return result


class LogWatcher:
    """Watches ``<directory>/<service>.log``.

    The services hold these files open for appending and are never told to open them anew, so a file is rotated by
    copying it away and truncating it; a line that is written between the two is lost.
    """

    def __init__(self, directory: Path, services: tuple[str, ...], *, terminal: int | None) -> None:
        """Show what is written from now on on the descriptor ``terminal``, if given."""
        self._directory = directory
        self._terminal = terminal
        self._width = max(map(len, services))
        self._names = {f"{name}.log": name for name in services}
        self._shown = {name: self.size(name) for name in services}
        self._partial = dict.fromkeys(services, b"")
        self._fd = _check(_libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK), "inotify")
        _check(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MODIFY), str(directory))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def path(self, service: str) -> Path:
        """The service's log."""
        return self._directory / f"{service}.log"

    def size(self, service: str) -> int:
        """The bytes in the service's log now."""
        try:
            return self.path(service).stat().st_size
        except FileNotFoundError:
            return 0

    def tail(self, service: str, start: int, lines: int) -> list[str]:
        """Return the last lines of what the service wrote from byte ``start`` on."""
        with self.path(service).open("rb") as log:
            log.seek(max(start, self.size(service) - _PIECE_BYTES))
            text = log.read().decode("utf-8", "replace")
        return text.splitlines()[-lines:]

    def catch_up(self) -> None:
        """Show and rotate what has grown; never waits."""
        try:
            events = os.read(self._fd, _PIECE_BYTES)
        except BlockingIOError:
            return
        for service in self._changed(events):
            if self._terminal is not None:
                self._show(service)
            if self.size(service) > MAX_LOG_BYTES:
                self._rotate(service)

    def close(self) -> None:
        """Show the rest and stop watching."""
        self.catch_up()
        os.close(self._fd)

    def _changed(self, events: bytes) -> set[str]:
        changed, at = set(), 0
        while at < len(events):
            *_, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size
            name = events[at : at + length].rstrip(b"\0").decode()
            at += length
            if name in self._names:
                changed.add(self._names[name])
        return changed

    def _show(self, service: str) -> None:
        assert self._terminal is not None
        label = f"{service:<{self._width}} | ".encode()
        with self.path(service).open("rb") as log:
            log.seek(min(self._shown[service], self.size(service)))
            while piece := log.read(_PIECE_BYTES):
                *whole, self._partial[service] = (self._partial[service] + piece).split(b"\n")
                self._write(b"".join(label + line + b"\n" for line in whole))
            self._shown[service] = log.tell()

    def _write(self, text: bytes) -> None:
        try:
            while text and self._terminal is not None:
                text = text[os.write(self._terminal, text) :]
        except OSError:
            self._terminal = None  # closed; the files still get everything

    def _rotate(self, service: str) -> None:
        path = self.path(service)
        with path.open("r+b") as log, path.with_suffix(".log.1").open("wb") as previous:
            while piece := log.read(_PIECE_BYTES):
                previous.write(piece)
            log.truncate(0)
        self._shown[service] = 0
