"""The cgroup that holds all containers of an engine, and what is left in it.

Processes of containers that nothing watches any more, found by their cgroups.

The run root says which monitor belongs to which container. Where it was removed under running containers, or a monitor
was killed together with its record of the process, the cgroup is all that is left to know the processes by: its name is
the container's ID, and its parent carries the engine's tag.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from runtimed.host.facts import CgroupTree
from sampan.log import log
from sampan.sys.processes import open_process


def remove_parent(trees: Sequence[CgroupTree], name: str) -> None:
    """Remove the engine's cgroup from every tree where no container is in it; runtimes make it again.

    With it goes what containers left whose monitor or runtime was killed: cgroups without a process.
    """
    remove_idle(trees, name)
    for tree in trees:
        with contextlib.suppress(OSError):  # EBUSY: containers outlive the engine
            Path(tree.path, name).rmdir()


def remove_idle(trees: Sequence[CgroupTree], name: str, keep: Collection[str] = ()) -> None:
    """Remove all cgroups without a process from the engine's, but those in ``keep``, by their paths.

    Nothing may be starting in one of them.
    """
    for tree in trees:
        with contextlib.suppress(FileNotFoundError):
            for group in list(_children(Path(tree.path, name))):
                if f"/{name}/{group.name}" not in keep:
                    _remove_idle(group)


def _remove_idle(group: Path) -> None:
    """Remove a group that has no process anywhere; one that has is left alone, with all that is below it."""
    with contextlib.suppress(OSError):  # it vanishes or comes to life meanwhile
        below = [group, *_descendants(group)]
        if not any((one / "cgroup.procs").read_text() for one in below):
            for one in reversed(below):
                one.rmdir()


def _remove_ended(group: Path) -> None:
    """Remove a group whose processes have ended; no error if it is not there, or does not go."""
    end, pause_s = time.monotonic() + _RELEASED_S, _RELEASE_S
    while True:
        _remove_idle(group)
        if not group.exists():
            return
        if time.monotonic() > end:
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _RELEASE_MOST_S)
    log.warning("cgroup not removed", cgroup=str(group))


def _descendants(group: Path) -> Iterator[Path]:
    """Yield the groups below, parents first."""
    for child in _children(group):
        yield child
        yield from _descendants(child)


def _children(group: Path) -> Iterator[Path]:
    return (entry for entry in group.iterdir() if entry.is_dir())


# The kernel lets go of a cgroup a moment after the end of its last process, when that has left its processor, which on
# a machine that has much to do is later; where groups are of version 1 nobody is told.
_RELEASE_S: Final = 0.005
_RELEASE_MOST_S: Final = 0.1
_RELEASED_S: Final = 10.0

_AT_ONCE: Final = 256  # descriptors of processes that are killed; a fork bomb has thousands

_ENDING_S: Final = 10.0  # SIGKILL needs a moment; a process in uninterruptible sleep may take for ever


class Orphans:
    """Ends them."""

    def __init__(self, trees: Sequence[CgroupTree]) -> None:
        self._trees = tuple(Path(tree.path) for tree in trees)

    def end(self, paths: Collection[str]) -> int:
        """Kill all processes in cgroups, as containers record their paths; blocks. Return how many were found."""
        return sum(self._end(path.strip("/")) for path in paths if path.strip("/"))

    def clear(self, path: str) -> None:
        """Remove the cgroup of a container that is to have ended, with all processes that are left in it; blocks.

        As a rule its runtime has removed it: not if that was killed, or lost what it knew of the container.
        """
        self._clear(path.strip("/"), self._end)

    def kill(self, path: str) -> None:
        """As ``clear``, of a cgroup in which it is no surprise that there are processes, however fast they fork."""
        self._clear(path.strip("/"), self._kill_all)

    def _clear(self, group: str, end: Callable[[str], int]) -> None:
        if not group:  # nobody's: that would be the whole machine
            return
        if left := [tree / group for tree in self._trees if (tree / group).is_dir()]:
            end(group)
            for one in left:
                _remove_ended(one)

    def _end(self, group: str) -> int:
        found = self._kill_all(group)
        if found:
            log.warning("processes without a monitor ended", cgroup=group, count=found)
        return found

    def _kill_all(self, group: str) -> int:
        found: set[int] = set()
        deadline = time.monotonic() + _ENDING_S
        while pids := self._processes(group):
            self._freeze(group)
            pids |= self._processes(group)  # those that were born meanwhile; now nobody is any more
            found |= pids
            if time.monotonic() > deadline:
                log.warning("processes do not end after SIGKILL", cgroup=group, count=len(pids))
                self._thaw(group)
                break
            with contextlib.ExitStack() as stack:
                killed: list[int] = []
                each = sorted(pids)
                for first in range(0, len(each), _AT_ONCE):
                    some = each[first : first + _AT_ONCE]
                    killed += self._kill_some(stack, group, some, keep=not killed)
                self._thaw(group)
                _wait(killed, deadline)
        return len(found)

    def _kill_some(
        self, stack: contextlib.ExitStack, group: str, pids: Sequence[int], *, keep: bool
    ) -> Collection[int]:
        """Kill processes unless they are others by now; with ``keep`` return pidfds, open as long as ``stack``."""
        with contextlib.ExitStack() as own:
            pidfds: dict[int, int] = {}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    pidfds[pid] = open_process(pid)
                    own.callback(os.close, pidfds[pid])
            still = self._processes(group)  # the same ones that were found
            killed = [pidfd for pid, pidfd in pidfds.items() if pid in still]
            for pidfd in killed:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if keep:
                stack.push(own.pop_all())
            return killed if keep else ()

    def _freeze(self, group: str) -> None:
        """Stop processes, and let none of them fork."""
        self._write(group, (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")))

    def _thaw(self, group: str) -> None:
        """Let frozen processes take the signal."""
        self._write(group, (("freezer.state", "THAWED"), ("cgroup.freeze", "0")))

    def _write(self, group: str, values: Collection[tuple[str, str]]) -> None:
        for tree in self._trees:
            for name, value in values:
                with contextlib.suppress(OSError):
                    fd = os.open(tree / group / name, os.O_WRONLY | os.O_CLOEXEC)
                    try:
                        os.write(fd, value.encode())
                    finally:
                        os.close(fd)

    def _processes(self, group: str) -> set[int]:
        pids: set[int] = set()
        for tree in self._trees:
            for directory in _with_descendants(tree / group):
                with contextlib.suppress(OSError):
                    pids |= {int(line) for line in (directory / "cgroup.procs").read_text().split()}
        return pids - {0}  # of another pid namespace, which cannot be named here


def _wait(pidfds: Collection[int], deadline: float) -> None:
    """Return when all processes have ended, or at the deadline."""
    poll = select.poll()
    left = set(pidfds)
    for pidfd in left:
        poll.register(pidfd, select.POLLIN)
    while left and (timeout_s := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(timeout_s * 1000):
            poll.unregister(pidfd)
            left.discard(pidfd)


def _with_descendants(group: Path) -> Iterator[Path]:
    left = [group]
    while left:
        directory = left.pop()
        yield directory
        with contextlib.suppress(OSError):
            left += [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
