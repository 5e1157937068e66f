"""Start programs and learn of their end through pidfds, in the event loop: no thread, no SIGCHLD, no polling."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sampan.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left behind."""

    code: int  # negative: the signal that ended it
    stdout: bytes
    stderr: bytes


async def ended(pidfd: int) -> None:
    """Return when the process behind ``pidfd`` has ended; the caller keeps the descriptor."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def fire() -> None:
        if not done.done():
            done.set_result(None)

    loop.add_reader(pidfd, fire)
    try:
        await done
    finally:
        loop.remove_reader(pidfd)


async def reap(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a child of ours and return its exit code."""
    if process.poll() is None:
        pidfd = os.pidfd_open(process.pid)
        try:
            await ended(pidfd)
        finally:
            os.close(pidfd)
    return process.wait()


async def kill_at_work_on(directory: Path) -> None:
    """Kill every process whose command line names ``directory``; return when they are gone.

    For what an earlier process of ours has started and has not been told about: there is no pid file yet that names it.
    """
    for pidfd in await asyncio.to_thread(_at_work_on, os.fsencode(directory)):
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await ended(pidfd)
        finally:
            os.close(pidfd)


def _at_work_on(directory: bytes) -> list[int]:
    """Return a pidfd for each."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue  # it has ended
        try:
            # Read when the descriptor is there already: the number is the same process's, or the read fails.
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            arguments = []
        if directory in arguments:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


async def run(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> Completed:
    """Run a program to its end. When cancelled or out of time the program is killed.

    Raises:
        UnavailableError: it took longer than ``timeout_s``.
        OSError: it could not be started.
    """
    # Memory files instead of pipes: whatever the amount of output, the program never waits for us.
    out, err = os.memfd_create("stdout", os.MFD_CLOEXEC), os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220  # returns when the child has called exec, within a millisecond
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(env), start_new_session=True
        )
        try:
            async with asyncio.timeout(timeout_s):
                code = await reap(process)
        except TimeoutError:
            raise UnavailableError(f"{argv[0]} did not end within {timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        return Completed(code, _contents(out), _contents(err))
    finally:
        os.close(out)
        os.close(err)


def _contents(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
