"""What the machine has to offer. A missing tool or privilege skips a test on a laptop and fails it in CI."""

import contextlib
import errno
import itertools
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from sampan.sys.mounts import umount2

_TIMES = itertools.count(1)

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
    """Return a TCP port on 127.0.0.1 that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(holds: Callable[[], bool], what: str, deadline_s: float = 20) -> None:
    """Return as soon as ``holds()``; fail after ``deadline_s``, saying ``what`` did not come true."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.02)


def sleeping(seconds: str) -> list[int]:
    """Return the pids of processes on this machine, in containers too, that are ``sleep`` with this argument."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended in the meantime
            if (process / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(process.name))
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
