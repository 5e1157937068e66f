"""The configuration of pods' networks, as its directory has it at present.

Reference: inotify(7). The directory need not be there yet: a network's installer makes it, with its parents perhaps, so
the nearest directory above that exists is watched as well.
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from crid.cni.config import load
from crid.cni.model import Network, Unusable
from sampan.log import log
from sampan.sys.libc import LIBC, check

_IN_ATTRIB: Final = 0x004
_IN_CLOSE_WRITE: Final = 0x008
_IN_MOVED_FROM: Final = 0x040
_IN_MOVED_TO: Final = 0x080
_IN_CREATE: Final = 0x100  # links, which nobody closes
_IN_DELETE: Final = 0x200
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_ONLYDIR: Final = 0x01000000
_IN_CHANGED: Final = (
    _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
    | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)  # fmt: skip

_READ_BYTES: Final = 64 << 10

# An installer writes, renames and removes several files; it is looked at once.
_SETTLE_S: Final = 0.05


class Configuration:
    """What a directory says, kept up to date; a context."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tell: Callable[[], None] = lambda: None
        self._fd = -1
        self._watched: dict[Path, int] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self.network: Network | Unusable = Unusable("the network configuration has not been read yet")

    async def __aenter__(self) -> Self:
        """Read the directory and begin to watch it.

        A machine whose watches are used up does without, and says so; the next start reads it again.
        """
        try:
            self._fd = check(LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        except OSError as error:
            log.warning("network configuration cannot be watched", error=error.strerror)
        else:
            asyncio.get_running_loop().add_reader(self._fd, self._look_soon)
        await self._look()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Watch no more."""
        if self._looking is not None:
            self._looking.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` in the event loop whenever ``network`` has become another."""
        self._tell = tell

    def _look_soon(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, _READ_BYTES)  # what exactly has changed does not matter
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_SETTLE_S, self._look_now)

    def _look_now(self) -> None:
        self._looking = None
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._look(), name="read the network configuration")
        else:  # it may have read what has changed since
            self._look_soon()

    async def _look(self) -> None:
        await asyncio.to_thread(self._watch)  # before it is read: a change in between is told
        network = await asyncio.to_thread(load, self._directory)
        if network == self.network:
            return
        self.network = network
        if isinstance(network, Unusable):
            log.warning("pods get no network", reason=network.reason)
        else:
            log.info("network configuration is read", network=network.name, file=str(network.source))
        self._tell()

    def _watch(self) -> None:
        """Watch the directory and those of plugins in it, or the nearest one above it that there is."""
        if self._fd < 0:
            return
        keep = {next(path for path in (self._directory, *self._directory.parents) if path.is_dir())}
        if self._directory in keep:
            with contextlib.suppress(OSError):
                keep |= {path for path in self._directory.iterdir() if path.is_dir()}
        for path in self._watched.keys() - keep:
            LIBC.inotify_rm_watch(self._fd, self._watched.pop(path))  # gone already if the directory is
        for path in keep:
            try:
                watch = LIBC.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(_IN_CHANGED))
                self._watched[path] = check(watch, str(path))
            except OSError as error:
                log.warning("network configuration cannot be watched", path=str(path), error=error.strerror)
