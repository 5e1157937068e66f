"""Learn at once that the kernel has run out of memory in a cgroup, from whichever tree has the memory controller.

Version 1 (Documentation/admin-guide/cgroup-v1/memory.rst, section 10) adds to an eventfd whenever a cgroup is out of
memory, before it kills anything, and counts the kills in ``memory.oom_control``. Version 2 (cgroup-v2.rst, "Memory
Interface Files") modifies ``memory.events``, which has the count, and inotify tells of that. An idle cgroup costs a
descriptor with version 1, and a watch of the one descriptor that all share with version 2.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from runtimed.cgroups.usage import table
from runtimed.host.facts import CgroupTree
from sampan.sys.inotify import MODIFY, FileWatches, Watch

_CONTROL: Final = "memory.oom_control"
_EVENTS: Final = "memory.events"

# Called in the event loop with how often the cgroup was out of memory, as far as the kernel tells that beside kills.
Notify = Callable[[int], None]


class OomNotices:
    """The memory controller's notices, by cgroup path (``/sampan/<id>``). For one event loop."""

    def __init__(self, trees: Sequence[CgroupTree], watches: FileWatches) -> None:
        tree = next((tree for tree in trees if "memory" in tree.controllers), None)
        self._root = str(tree.path) if tree else ""
        self._version = tree.version if tree else 0
        self._watches = watches

    def kills(self, path: str) -> int:
        """Return how many processes the kernel has killed in the cgroup; 0 if it is gone."""
        name = _EVENTS if self._version == 2 else _CONTROL
        return table(f"{self._root}{path}/{name}").get("oom_kill", 0) if self._root else 0

    def watch(self, path: str, notify: Notify) -> Watch:
        """Begin to watch. What happened before is not notified.

        Raises:
            OSError: there is no such cgroup, or descriptors or watches are used up.
        """
        if not self._root:
            return _Never()
        directory = Path(self._root + path)
        if self._version == 2:  # the count in its file says all that there is to notify
            return self._watches.watch(directory / _EVENTS, MODIFY, lambda: notify(0))
        return _Eventfd(directory, notify)


class _Never:
    """A cgroup on a machine without the memory controller."""

    def close(self) -> None:
        pass


class _Eventfd:
    """A cgroup of version 1."""

    def __init__(self, directory: Path, notify: Notify) -> None:
        self._control = directory / _CONTROL
        self._notify = notify
        self._late = 0  # of what was told, what was read when the cgroup had gone
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._register(directory)
        except OSError:
            os.close(self._fd)
            raise
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _register(self, directory: Path) -> None:
        control = os.open(self._control, os.O_RDONLY | os.O_CLOEXEC)  # the kernel needs it no longer than this
        try:
            target = os.open(directory / "cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(target, f"{self._fd} {control}".encode())
            finally:
                os.close(target)
        finally:
            os.close(control)

    def _read(self) -> None:
        try:
            count = os.eventfd_read(self._fd)
        except BlockingIOError:
            return
        if self._control.exists():
            self._notify(count)
            return
        # The removal of the cgroup is told through the same descriptor, once: either it is in this count, or it comes.
        before, self._late = self._late, self._late + count
        if more := self._late - max(before, 1):
            self._notify(more)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
