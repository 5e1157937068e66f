"""What the kernel says about a process: its rights and limits, and whether a process forked here can have the same.

Whatever a command is allowed follows from this and never from what its client says. Where a forked process would be
allowed more than its caller, or something else, the caller runs the command itself.
"""

import os
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

# The four IDs of a kind (real, effective, saved, for files) that a program without special rights has the same.
_IDS: Final = 4

_NAMESPACES: Final = (
    *("mnt", "net", "pid", "pid_for_children", "user", "uts", "ipc", "cgroup", "time", "time_for_children"),
)

# As the status file has them; the bounding set is compared by itself.
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb")

_LIMITS: Final = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}
_LIMIT: Final = re.compile(r"^(Max [a-z ]+?) +(\d+|unlimited) +(\d+|unlimited) ", re.MULTILINE)

Limit = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a process is and may do."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: frozenset[int]
    umask: int
    capabilities: tuple[str, ...]
    bounding: str
    no_new_privileges: str
    seccomp: str
    ignored: int  # signals, a bit each, the lowest is 1
    blocked: int
    limits: Mapping[int, Limit]
    priority: tuple[int, int]  # scheduling policy, nice value
    processors: frozenset[int]
    oom_score_adj: int
    control_groups: str
    namespaces: tuple[str, ...]
    root: tuple[int, int]
    label: bytes  # of a security module
    login: str  # the audit system's
    personality: str

    @classmethod
    def of(cls, pid: int, directory: int) -> Self:
        """Look at a process whose directory in /proc is open: another one with its number is never taken for it.

        Raises:
            OSError: it is gone, or we may not know.
            ValueError: the kernel is too old to say all of it.
        """

        def read(name: str) -> str:
            with open(name, opener=lambda path, flags: os.open(path, flags, dir_fd=directory)) as file:
                return file.read()

        status = dict(line.split(":\t", 1) for line in read("status").splitlines() if ":\t" in line)
        root = os.stat("root", dir_fd=directory)
        try:
            return cls(
                uids=_numbers(status["Uid"]),
                gids=_numbers(status["Gid"]),
                groups=frozenset(_numbers(status["Groups"])),
                umask=int(status["Umask"], 8),
                capabilities=tuple(status[name] for name in _CAPABILITIES),
                bounding=status["CapBnd"],
                no_new_privileges=status["NoNewPrivs"],
                seccomp=status["Seccomp"],
                ignored=int(status["SigIgn"], 16),
                blocked=int(status["SigBlk"], 16),
                limits=_limits(read("limits")),
                priority=(os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)),
                processors=frozenset(os.sched_getaffinity(pid)),
                oom_score_adj=int(read("oom_score_adj")),
                control_groups=read("cgroup"),
                namespaces=tuple(os.readlink(f"ns/{name}", dir_fd=directory) for name in _NAMESPACES),
                root=(root.st_dev, root.st_ino),
                label=_optional("attr/current", directory),
                login=_optional("loginuid", directory).decode(),
                personality=read("personality"),
            )
        except KeyError as missing:
            raise ValueError(f"the kernel does not tell {missing}") from None

    @classmethod
    def own(cls) -> Self:
        """Look at this process. Raises as ``of``."""
        directory = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls.of(os.getpid(), directory)
        finally:
            os.close(directory)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split())


def _limits(text: str) -> Mapping[int, Limit]:
    """Return the soft and hard limits by their resource. ValueError if one is missing."""
    found = {
        _LIMITS[name]: (_limit(soft), _limit(hard)) for name, soft, hard in _LIMIT.findall(text) if name in _LIMITS
    }
    if len(found) != len(_LIMITS):
        raise ValueError("the kernel does not tell all limits")
    return found


def _limit(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def _optional(name: str, directory: int) -> bytes:
    """Return a file of a part of the kernel that may be missing."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, 4096).rstrip(b"\0\n")
    except OSError:  # EINVAL: there is no such security module
        return b""
    finally:
        os.close(fd)


def refusal(caller: Standing, own: Standing) -> str | None:
    """Say why a process that is forked from one of ``own`` standing cannot be in the caller's; None if it can.

    What can be given up or taken on is not compared: IDs, limits, masks, the control group.
    """
    uid, gid = caller.uids[0], caller.gids[0]
    if caller.uids != (uid,) * _IDS or caller.gids != (gid,) * _IDS:
        return "several user or group IDs"
    # Other than root has none; whoever becomes another user than root loses what we have.
    expected = own.capabilities if uid == 0 else (own.capabilities[0], *(["0" * 16] * (len(_CAPABILITIES) - 1)))
    if own.uids[0] != 0 and (caller.uids, caller.gids, caller.groups) != (own.uids, own.gids, own.groups):
        return "another user, and no right to become one"
    if caller.capabilities != expected or caller.bounding != own.bounding:
        return "other capabilities"
    for what, theirs, ours in (
        ("no_new_privs", caller.no_new_privileges, own.no_new_privileges),
        ("namespaces", caller.namespaces, own.namespaces),
        ("a root directory", caller.root, own.root),
        ("a label of a security module", caller.label, own.label),
        ("a personality", caller.personality, own.personality),
        ("a scheduling policy", caller.priority[0], own.priority[0]),
    ):
        if theirs != ours:
            return f"{what} of its own"
    # Two filters of the same mode can differ, and nobody tells.
    return "a system call filter" if caller.seccomp != "0" or own.seccomp != "0" else None


def own_control_group_of(control_groups: str) -> Path | None:
    """Return the directory of the unified hierarchy's group that is in a ``/proc/<pid>/cgroup``, if it is mounted."""
    path = next((line[3:] for line in control_groups.splitlines() if line.startswith("0::")), None)
    if path is None or path.endswith(" (deleted)"):
        return None
    for mounted in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if Path(mounted, "cgroup.procs").exists():
            return Path(f"{mounted}{path}")
    return None
