"""Changes of files, as the kernel tells them: inotify(7).

A user may have 128 descriptors of this kind, and many more watches of each: who watches many files shares one.
"""

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sampan.sys.libc import LIBC, check

# From <sys/inotify.h>. What can happen to a watched file, or to one in a watched directory:
MODIFY: Final = 0x002
ATTRIB: Final = 0x004
CLOSE_WRITE: Final = 0x008
MOVED_FROM: Final = 0x040
MOVED_TO: Final = 0x080
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
# Watch nothing but a directory.
ONLYDIR: Final = 0x0100_0000

_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000  # the watch is no more
_MASK_ADD: Final = 0x2000_0000
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows, padded with NUL
_READ_BYTES: Final = 64 << 10


class Change(NamedTuple):
    """Something that has happened."""

    watch: int
    """What ``Inotify.add`` has returned; -1 if ``lost``."""
    mask: int
    name: bytes
    """The file in the watched directory; empty if what is watched has changed itself."""

    @property
    def lost(self) -> bool:
        """Changes came faster than they were read, and some are not told: anything watched may have changed."""
        return bool(self.mask & _OVERFLOW)


class Inotify:
    """One descriptor, to be waited on until it can be read."""

    def __init__(self) -> None:
        """Make it. Raises OSError: the user's descriptors of this kind are used up."""
        self._fd = check(LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def add(self, path: Path, mask: int) -> int:
        """Watch ``path`` for what ``mask`` has, and return the watch's number: the same for the same file.

        Raises:
            OSError: ``path`` is not there, or the user's watches are used up.
        """
        return check(LIBC.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)), str(path))

    def remove(self, watch: int) -> None:
        """Watch no more; no error if the watch has ended with its file."""
        LIBC.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Change]:
        """Return what has happened and was not read yet; never waits."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        changes, at = [], 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            changes.append(Change(watch, mask, data[at : at + length].rstrip(b"\0")))
            at += length
        return changes

    def close(self) -> None:
        """End all watches; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Watch(Protocol):
    """Something that is watched."""

    def close(self) -> None:
        """Watch no more; safe to repeat, and when it is gone."""


class FileWatches:
    """Those who want to hear of files, and of which, in one event loop. One descriptor, made with the first watch."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._listeners: dict[int, list[_Listener]] = {}

    def watch(self, path: Path, mask: int, notify: Callable[[], None]) -> Watch:
        """Call ``notify`` in the event loop after something of ``mask`` has happened, once for what came together.

        Several may watch the same file, each for something else.

        Raises:
            OSError: ``path`` is not there, or descriptors or watches are used up.
        """
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify, self._read)
        number = self._inotify.add(path, mask | _MASK_ADD)
        listener = _Listener(self, number, mask, notify)
        self._listeners.setdefault(number, []).append(listener)
        return listener

    def _read(self) -> None:
        if self._inotify is None:
            return
        due: dict[_Listener, None] = {}
        for change in self._inotify.read():
            if change.lost:
                due.update(dict.fromkeys(one for some in self._listeners.values() for one in some))
            elif change.mask & _IGNORED:  # the file is gone, or its file system
                self._listeners.pop(change.watch, None)
            else:
                due.update(
                    dict.fromkeys(one for one in self._listeners.get(change.watch, ()) if one.mask & change.mask)
                )
        for listener in due:
            if listener.wanted:
                listener.notify()

    def forget(self, listener: "_Listener") -> None:
        """End one watch."""
        listeners = self._listeners.get(listener.number, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners and self._inotify is not None:
                del self._listeners[listener.number]
                self._inotify.remove(listener.number)

    def close(self) -> None:
        """End all watches; safe to repeat, and after the loop has ended."""
        if self._inotify is not None:
            with contextlib.suppress(RuntimeError):  # with the loop its readers have ended
                asyncio.get_running_loop().remove_reader(self._inotify)
            self._inotify.close()
            self._inotify = None
            self._listeners.clear()


@dataclass(eq=False, slots=True)
class _Listener:
    watches: FileWatches
    number: int
    mask: int
    notify: Callable[[], None]
    wanted: bool = True

    def close(self) -> None:
        self.wanted = False
        self.watches.forget(self)
