"""inotify(7): learn that a file has changed, in the event loop."""

import asyncio
import ctypes
import os
from pathlib import Path
from typing import Final, Self

from sampan.sys.libc import LIBC, check

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
_IN_NONBLOCK: Final = os.O_NONBLOCK
_IN_CLOEXEC: Final = os.O_CLOEXEC
_READ_BYTES: Final = 64 << 10


class Watch:
    """Tells when something in a directory changes. Which of it did is for the caller to look up."""

    def __init__(self, directory: Path) -> None:
        """Begin to watch. Raises OSError: there is no such directory, or the user's watches are used up."""
        self._fd = check(LIBC.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC), "inotify")
        try:
            mask = ctypes.c_uint32(IN_MODIFY | IN_MOVED_TO | IN_CREATE)
            check(LIBC.inotify_add_watch(self._fd, os.fsencode(directory), mask), str(directory))
        except OSError:
            os.close(self._fd)
            raise
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    @property
    def changed(self) -> asyncio.Event:
        """Set at each change; clear it before looking at the file, so that none is missed."""
        return self._changed

    def _read(self) -> None:
        try:
            os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        self._changed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
