"""The configuration of pods' networks, as its directory has it at present.

Reference: inotify(7). The directory need not be there yet: a network's installer makes it, with its parents perhaps, so
the nearest directory above that exists is watched as well.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from crid.cni.config import load
from crid.cni.model import Network, Unusable
from sampan.log import log
from sampan.sys.inotify import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    DELETE_SELF,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ONLYDIR,
    FileWatches,
    Watch,
)

_CHANGED: Final = (
    ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR
)  # CREATE for links, which nobody closes

# An installer writes, renames and removes several files; it is looked at once.
_SETTLE_S: Final = 0.05


class Configuration:
    """What a directory says, kept up to date; a context."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tell: Callable[[], None] = lambda: None
        self._watches = FileWatches()
        self._watched: list[Watch] = []
        self._looking: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self.network: Network | Unusable = Unusable("the network configuration has not been read yet")

    async def __aenter__(self) -> Self:
        """Read the directory and begin to watch it.

        A machine whose watches are used up does without, and says so; the next start reads it again.
        """
        await self._look()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Watch no more."""
        if self._looking is not None:
            self._looking.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._watches.close()

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` in the event loop whenever ``network`` has become another."""
        self._tell = tell

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_SETTLE_S, self._look_now)

    def _look_now(self) -> None:
        self._looking = None
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._look(), name="read the network configuration")
        else:  # it may have read what has changed since
            self._look_soon()

    async def _look(self) -> None:
        self._watch(await asyncio.to_thread(self._directories))  # before it is read: a change in between is told
        network = await asyncio.to_thread(load, self._directory)
        if network == self.network:
            return
        self.network = network
        if isinstance(network, Unusable):
            log.warning("pods get no network", reason=network.reason)
        else:
            log.info("network configuration is read", network=network.name, file=str(network.source))
        self._tell()

    def _directories(self) -> set[Path]:
        """The directory and those of plugins in it, or the nearest one above it that there is."""
        nearest = next(path for path in (self._directory, *self._directory.parents) if path.is_dir())
        if nearest != self._directory:
            return {nearest}
        with contextlib.suppress(OSError):
            return {nearest, *(path for path in nearest.iterdir() if path.is_dir())}
        return {nearest}

    def _watch(self, directories: set[Path]) -> None:
        """Watch these instead of others. Each anew: there may be another directory at its path by now."""
        before, self._watched = self._watched, []
        for path in directories:
            try:
                self._watched.append(self._watches.watch(path, _CHANGED, self._look_soon))
            except OSError as error:
                log.warning("network configuration cannot be watched", path=str(path), error=error.strerror)
        for watch in before:
            watch.close()
