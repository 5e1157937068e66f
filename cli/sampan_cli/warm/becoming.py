"""Turn a process that was just forked into the caller's: its rights and limits first, then its files and surroundings.

In this order, because what comes first takes rights that what comes last gives up. Every step either has its effect or
raises, and then nothing has been run yet. A limit that a service of root's has and its caller has not may not be
raised, for instance: the command runs in its caller's own process then.
"""

import fcntl
import os
import resource
import signal
from collections.abc import Sequence
from typing import Final

from sampan_cli.warm.caller import Limit, Standing, own_control_group_of
from sampan_cli.warm.request import HIGHEST_DESCRIPTOR

# Descriptors are put here before they get their numbers: below are those that a client may pass.
_PARKED: Final = HIGHEST_DESCRIPTOR + 1

_HIGHEST_DESCRIPTOR: Final = 1 << 20

# Python ignores these itself, as it does in every process of its own.
_IGNORED_BY_PYTHON: Final = frozenset((signal.SIGPIPE, signal.SIGXFSZ))


def become(caller: Standing, own: Standing) -> None:
    """Take on the caller's rights and limits. OSError, ValueError if this process cannot."""
    if caller.control_groups != own.control_groups:
        _join(caller.control_groups, own.control_groups)
    if caller.login != own.login:
        _write("/proc/self/loginuid", caller.login)
    if caller.oom_score_adj != own.oom_score_adj:
        _write("/proc/self/oom_score_adj", str(caller.oom_score_adj))
    if caller.processors != own.processors:
        os.sched_setaffinity(0, caller.processors)
    if caller.priority != own.priority:
        os.setpriority(os.PRIO_PROCESS, 0, caller.priority[1])
    for number, limit in caller.limits.items():
        _set_limit(number, limit, own.limits[number])
    os.umask(caller.umask)
    if (caller.uids, caller.gids, caller.groups) != (own.uids, own.gids, own.groups):
        os.setgroups(sorted(caller.groups))
        os.setresgid(*caller.gids[:3])
        os.setresuid(*caller.uids[:3])
    if caller.uids[0] != 0 and (os.getresuid() != caller.uids[:3] or os.getresgid() != caller.gids[:3]):
        raise OSError("still somebody else")  # never: a kernel that says yes and does nothing


def _join(theirs: str, ours: str) -> None:
    """Move into a control group: some milliseconds each, so only where there is one hierarchy in which they differ."""
    differing = set(theirs.splitlines()) - set(ours.splitlines())
    group = own_control_group_of(theirs)
    if group is None or not all(line.startswith("0::") for line in differing):
        raise ValueError("control groups of several hierarchies")
    _write(str(group / "cgroup.procs"), "0")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _set_limit(number: int, limit: Limit, ours: Limit) -> None:
    if limit != ours:
        resource.setrlimit(number, limit)


def take_signals(caller: Standing) -> None:
    """Have the signals that a new interpreter of the caller's would have; blocked ones come when they are let."""
    for number in signal.valid_signals():
        if number in (signal.SIGKILL, signal.SIGSTOP) or number in _IGNORED_BY_PYTHON:
            continue
        ignored = caller.ignored >> (number - 1) & 1
        if ignored:
            signal.signal(number, signal.SIG_IGN)
        elif number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        elif signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {n for n in signal.valid_signals() if caller.blocked >> (n - 1) & 1})


def park(descriptors: Sequence[int]) -> list[int]:
    """Give descriptors high numbers, so that none is in another's place."""
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PARKED) for fd in descriptors]
    for fd in descriptors:
        os.close(fd)
    return parked


def take_descriptors(directory: int, parked: Sequence[int], numbers: Sequence[int]) -> None:
    """Give the caller's descriptors their numbers, and work in its ``directory``. OSError if we may not enter it."""
    for fd, number in zip(parked, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.fchdir(directory)
    os.close(directory)


def take_environment(environment: Sequence[bytes]) -> None:
    """Have these variables and no others."""
    os.environ.clear()
    for variable in environment:
        name, equals, value = variable.partition(b"=")
        if equals and name:
            os.environb[name] = value


def close_all_but(kept: int) -> None:
    """Close every descriptor but ``kept``, whatever object may think that it has one."""
    if kept:  # an empty range that begins at 0 is, to Python, all of them
        os.closerange(0, kept)
    os.closerange(kept + 1, _HIGHEST_DESCRIPTOR)
