"""Out-of-memory kills in containers, told while the containers run: of any process, also of execs.

Each is told once, whatever becomes of runtimed meanwhile: how many were told in a run is the size of a file in the
run's bundle, and what the kernel has counted beyond that is told when the container is watched again, or ends.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.cgroups.oom import OomNotices
from runtimed.containers.memory_store import Entry
from runtimed.containers.paths import Paths
from runtimed.events import Events
from sampan.log import log
from sampan.sys.inotify import Watch

# When to look whether a notice was of a kill, until it was: the kernel notifies, chooses, kills, counts. Most often it
# has done all that before we hear of it; and where another process was ending already, it kills none.
_LOOKS_S: Final = (0.005, 0.05, 0.5)

# Events at a time. A container that runs out of memory faster than its notices are read fills no journal with it.
_AT_ONCE: Final = 64


@dataclass(slots=True)
class _Run:
    """One run of a container."""

    told: int
    watch: Watch | None = None
    look: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Watch it no more."""
        if self.look is not None:
            self.look.cancel()
        if self.watch is not None:
            self.watch.close()


class OomKills:
    """Watches the containers that run, and publishes Docker's ``oom`` events."""

    def __init__(self, notices: OomNotices, events: Events, paths: Paths) -> None:
        self._notices = notices
        self._events = events
        self._paths = paths
        self._runs: dict[str, _Run] = {}

    def watch(self, entry: Entry) -> None:
        """Tell of kills from now on, and of those since the container's start that were not told."""
        self._forget(entry)
        self._runs[entry.id] = run = _Run(_size(self._told_file(entry)))
        try:
            run.watch = self._notices.watch(
                entry.container.cgroup_path, lambda notices: self._noticed(entry, run, notices)
            )
        except OSError as error:  # what is killed is counted nevertheless, and told when it ends
            log.warning("out-of-memory kills are told late", container=entry.id, error=str(error))
        self._tell_counted(entry, run)

    def end(self, entry: Entry) -> bool:
        """Watch it no more, since it has ended; tell what is not told yet. Return whether it was out of memory."""
        run = self._forget(entry) or _Run(_size(self._told_file(entry)))
        noted = (self._paths.container(entry.id).bundle / "oom").exists()  # by conmon
        self._tell_counted(entry, run, at_least=int(noted))
        return run.told > 0

    def close(self) -> None:
        """Watch none any more."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()

    def _forget(self, entry: Entry) -> _Run | None:
        run = self._runs.pop(entry.id, None)
        if run is not None:
            run.close()
        return run

    def _noticed(self, entry: Entry, run: _Run, notices: int) -> None:
        if self._tell_counted(entry, run) or not notices:
            return
        if entry.container.spec.resources.oom_kill_disable:
            self._publish(entry, run, 1)  # its processes wait until there is memory
        else:
            self._look(entry, run, _LOOKS_S)

    def _look(self, entry: Entry, run: _Run, delays_s: Sequence[float]) -> None:
        def look() -> None:
            run.look = None
            if not self._tell_counted(entry, run):
                self._look(entry, run, delays_s[1:])

        if run.look is not None:
            run.look.cancel()
        if delays_s:
            run.look = asyncio.get_running_loop().call_later(delays_s[0], look)

    def _tell_counted(self, entry: Entry, run: _Run, *, at_least: int = 0) -> bool:
        """Publish one event for each kill that the kernel has counted and that was not told; return whether any was."""
        new = max(self._notices.kills(entry.container.cgroup_path), at_least) - run.told
        if new > 0:
            self._publish(entry, run, new)
        return new > 0

    def _publish(self, entry: Entry, run: _Run, count: int) -> None:
        run.told += count
        self._record(entry, run.told)
        for _ in range(min(count, _AT_ONCE)):
            self._events.container(entry.container, "oom")

    def _told_file(self, entry: Entry) -> Path:
        return self._paths.container(entry.id).bundle / "oom-told"

    def _record(self, entry: Entry, told: int) -> None:
        try:
            fd = os.open(self._told_file(entry), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, told)  # a size takes no room on a disk that may be full
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("out-of-memory kill not recorded as told", container=entry.id, error=str(error))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
