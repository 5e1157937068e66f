"""What the machine has to offer. A missing tool or privilege skips a test on a laptop and fails it in CI."""

import contextlib
import errno
import itertools
import os
import random
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest

from sampan.sys.mounts import umount2

_TIMES = itertools.count(1)

# Below those of ip_local_port_range, which are also what the engine publishes where no port is asked for.
_PORTS: Final = range(20_000, 30_000)
_CLAIMED: Final[list[socket.socket]] = []

# How long what is sure to come is waited for. It comes in a moment; the rest is patience with a machine that has twenty
# other things to do.
PATIENCE_S: Final = 60.0

# Set by tools/run-tests: there, a test that cannot run has failed.
STRICT = "SAMPAN_TEST_STRICT"


def need(*programs: str) -> None:
    """Skip, or in CI fail, the test that asks for a program which is not on PATH."""
    missing = [program for program in programs if shutil.which(program, path=search_path()) is None]
    if missing:
        cannot_run(f"not installed: {', '.join(missing)} (make test-needs)")


def need_root() -> None:
    """Skip, or in CI fail, the test that asks for root."""
    if os.geteuid() != 0:
        cannot_run("needs root")


def cannot_run(reason: str) -> NoReturn:
    """Say that the test cannot run here."""
    if os.environ.get(STRICT):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def search_path() -> str:
    """PATH with the places where Debian keeps an administrator's programs."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def long_time() -> str:
    """Return some months in seconds, for a ``sleep`` that can be told from those of other tests on this machine."""
    return f"{os.getpid():07}{next(_TIMES):03}"


def free_port() -> int:
    """Return a TCP port that nothing uses, and that no other test gets while this process is there.

    It is none of those that the kernel gives to whoever asks for any: it would soon give it to somebody else.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0sampan-tests-port-{port}")  # which goes with its process, whatever ends that
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", port))
        except OSError:
            claim.close()
        else:
            _CLAIMED.append(claim)
            return port
    raise AssertionError("no port is free")


def eventually(holds: Callable[[], bool], what: str, deadline_s: float = PATIENCE_S) -> None:
    """Return as soon as ``holds()``; fail after ``deadline_s``, saying ``what`` did not come true."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.02)


def settled(look: Callable[[], object], quiet_s: float = 0.5) -> None:
    """Return as soon as what ``look`` returns has stayed the same for ``quiet_s``; fail if it does not for long."""
    end = time.monotonic() + PATIENCE_S
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE_S} s: it stays the same; at last it was {seen!r}")
        time.sleep(0.02)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()


def sleeping(seconds: str) -> list[int]:
    """Return the pids of processes on this machine, in containers too, that are ``sleep`` with this argument."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended in the meantime
            if (process / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(process.name))
    return found


def status(pid: int, field: str) -> str:
    """Return a line of a process's status file, empty for one that is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return line.partition(":")[2].strip()
    return ""


def catches(pid: int, number: int) -> bool:
    """Say whether a process has a handler for a signal."""
    return bool(int(status(pid, "SigCgt") or "0", 16) >> (number - 1) & 1)


def open_files(pid: int) -> list[str]:
    """Return what a process's descriptors lead to, but for those that are closed meanwhile."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))
    return found


def remove_group(group: Path) -> None:
    """Remove a control group that a test has made, as soon as the kernel lets go of the last process that was in it.

    One that is dying is listed in it no more, and still holds it.
    """
    eventually(lambda: _removed(group), f"the control group {group} can be removed")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def files_with(secret: bytes, root: Path, most_bytes: int = sys.maxsize) -> list[Path]:
    """Return the files below a directory that hold ``secret``; others may go while it is looked for."""
    found = []
    for directory, _, names in os.walk(root):
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size < most_bytes and secret in path.read_bytes():
                    found.append(path)
    return found


def unmount(point: str | Path) -> None:
    """Unmount what a test has mounted, as soon as nothing holds it.

    Other mount namespaces that were made meanwhile, a container's or a worker's, hold a copy until their last process
    is gone. No event tells of that, so it is asked for.
    """
    eventually(lambda: _unmounted(point), f"{point} can be unmounted")


def _unmounted(point: str | Path) -> bool:
    try:
        umount2(str(point))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
