"""The services' log files: shown on the terminal as they grow, and kept from growing without bound."""

import os
from pathlib import Path
from typing import Final

from sampan.sys.inotify import MODIFY, Inotify

# A log and the one before it, per service.
MAX_LOG_BYTES: Final = 10 << 20

_PIECE_BYTES: Final = 64 << 10


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
        self._inotify = Inotify()
        self._inotify.add(directory, MODIFY)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._inotify.fileno()

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
        for service in self._changed():
            if self._terminal is not None:
                self._show(service)
            if self.size(service) > MAX_LOG_BYTES:
                self._rotate(service)

    def close(self) -> None:
        """Show the rest and stop watching."""
        self.catch_up()
        self._inotify.close()

    def _changed(self) -> set[str]:
        changes = self._inotify.read()
        if any(change.lost for change in changes):
            return set(self._names.values())
        names = {change.name.decode("utf-8", "replace") for change in changes}
        return {self._names[name] for name in names & self._names.keys()}

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
