"""Whether a step ran out of memory: learned before its runtime removes the cgroup."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from runtimed.cgroups.oom import Notify
from runtimed.host.facts import CgroupTree
from sampan.sys.inotify import Watch


class Notices(Protocol):
    """The memory controller's notices; ``cgroups.oom.OomNotices``."""

    def kills(self, path: str) -> int:
        """Return how many processes the kernel has killed in the cgroup; 0 if it is gone."""

    def watch(self, path: str, notify: Notify) -> Watch:
        """Begin to watch. Raises OSError if there is no such cgroup."""


class MemoryWatch:
    """One step's cgroup."""

    def __init__(self, notices: Notices, path: str) -> None:
        self._notices = notices
        self._path = path
        self._watch: Watch | None = None
        self._told = asyncio.Event()

    def begin(self) -> None:
        """Watch, if that is possible by now; safe to repeat."""
        if self._watch is None:
            try:
                self._watch = self._notices.watch(self._path, self._notify)
            except OSError:  # version 2 has the file when the runtime has handed the controller down
                return

    def _notify(self, count: int) -> None:
        # With version 1 the kernel counts before it kills, and it will; with version 2 it tells of other things, too.
        if count > 0 or self._notices.kills(self._path) > 0:
            self._told.set()

    async def killed(self, grace_s: float) -> bool:
        """Whether the kernel has killed a process of the step for want of memory.

        The step has ended, and its runtime removes the cgroup: what is told of it that late is waited for ``grace_s``.
        """
        if not self._told.is_set() and self._notices.kills(self._path) == 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._told.wait()
            return self._told.is_set()
        return True

    def close(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


class MemoryEvents:
    """Makes watches."""

    def __init__(self, notices: Notices, tree: CgroupTree | None) -> None:
        """``tree`` is the one with the memory controller, None if no tree has it."""
        self._notices = notices
        self._tree = tree

    def prepare(self, path: str) -> MemoryWatch:
        """Return a watch for a cgroup, which is made already, so that not even a first kill is missed; blocks."""
        if self._tree is not None:
            Path(f"{self._tree.path}{path}").mkdir(parents=True, exist_ok=True)
        return MemoryWatch(self._notices, path)
