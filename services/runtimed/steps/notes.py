"""Learn at once that a file in a directory was written: inotify(7), one descriptor for all directories.

A user may have 128 such descriptors, and a builder more steps than that.
"""

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC, check

_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED_TO: Final = 0x80
_EVENT: Final = struct.Struct("iIII")  # struct inotify_event; a name of the length in its last field follows
_READ_BYTES: Final = 64 << 10

Notify = Callable[[], None]


class DirectoryNotes:
    """Watches directories; for one event loop. The descriptor is made with the first watch."""

    def __init__(self) -> None:
        self._fd = -1
        self._by_watch: dict[int, Notify] = {}
        self._by_directory: dict[Path, int] = {}

    def watch(self, directory: Path, notify: Notify) -> None:
        """Call ``notify`` in the event loop whenever a file in ``directory`` was written or moved there.

        Raises:
            OSError: the directory is not there, or watches are used up.
        """
        if self._fd < 0:
            self._fd = check(LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        mask = ctypes.c_uint32(_IN_CLOSE_WRITE | _IN_MOVED_TO)
        number = check(LIBC.inotify_add_watch(self._fd, os.fsencode(directory), mask), str(directory))
        self._by_watch[number] = notify
        self._by_directory[directory] = number

    def _read(self) -> None:
        try:
            content = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        place = 0
        told: dict[int, None] = {}
        while place < len(content):
            number, _, _, length = _EVENT.unpack_from(content, place)
            told[number] = None
            place += _EVENT.size + length
        for number in told:
            if (notify := self._by_watch.get(number)) is not None:
                notify()

    def forget(self, directory: Path) -> None:
        """Watch no more; no error if it was not watched."""
        number = self._by_directory.pop(directory, None)
        if number is not None and self._by_watch.pop(number, None) is not None and self._fd >= 0:
            LIBC.inotify_rm_watch(self._fd, number)  # gone already with the directory, if that is

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it its readers
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
