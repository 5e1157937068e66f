"""Start programs and learn of their end through pidfds, in the event loop: no thread, no SIGCHLD, no polling."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import UnavailableError
from sampan.log import log

_ENDING_S: Final = 10.0

# How often a process is looked at that has a program and no arguments: for a moment of its exec it has none. One that
# has taken them from itself, as a container's may, is not waited for.
_LOOKS_AT_EXEC: Final = 50

# Whether memory files can be executed: 0 if so, or where the file is not there.
_MEMFD_NOEXEC: Final = Path("/proc/sys/vm/memfd_noexec")


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left behind."""

    code: int  # negative: the signal that ended it
    stdout: bytes
    stderr: bytes


def is_over(pidfd: int) -> bool:
    """Whether the process has ended, though that may not be recorded yet; -1 is one that had before it was found."""
    if pidfd < 0:
        return True
    poll = select.poll()  # a pidfd can be read when its process has ended
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


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
    """Kill every process whose command line names ``directory``, and all below it; return when they are gone,
    or after ten seconds: a process in uninterruptible sleep may take for ever.

    For what was started and has not reported: there may be no pid file yet that names it.
    """
    pidfds = await asyncio.to_thread(_killed_at_work_on, os.fsencode(directory))
    try:
        async with asyncio.timeout(_ENDING_S):
            for pidfd in pidfds:
                await ended(pidfd)
    except TimeoutError:
        log.warning("processes do not end after SIGKILL", directory=str(directory))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def session_of(pid: int) -> int:
    """Return the session that a process belongs to; its own number if it has ended."""
    try:
        # After ") " come the state, the parent's pid, the process group and the session.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[3])
    except (OSError, IndexError, ValueError):
        return pid


async def kill_with_offspring(pid: int, session: int, cgroup: str) -> None:
    """Kill a process in ``cgroup`` that a runtime has begun, with all that came of it; return as above.

    Runtimes give each process a session. So those whose parents have ended are known by that, unless they began another
    one. The cgroup tells them from others that have those numbers by now.
    """
    pidfds = await asyncio.to_thread(_killed_offspring, pid, session, cgroup.encode())
    try:
        async with asyncio.timeout(_ENDING_S):
            for pidfd in pidfds:
                await ended(pidfd)
    except TimeoutError:
        log.warning("processes do not end after SIGKILL", of=pid)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _killed_offspring(pid: int, session: int, cgroup: bytes) -> list[int]:
    """As ``_killed_at_work_on``."""
    found: dict[int, int] = {}
    while new := _offspring(pid, session, cgroup, found):
        _signal(new.values(), signal.SIGSTOP)
        found |= new
    _signal(found.values(), signal.SIGKILL)
    return list(found.values())


def _offspring(first: int, session: int, cgroup: bytes, known: Mapping[int, int]) -> dict[int, int]:
    """Return, by pid, a pidfd for ``first`` and for each of its session or below one, if it is not ``known``."""
    pidfds: dict[int, int] = {}
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, pidfd, _ in _processes(known):
        pidfds[pid] = pidfd
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended
            if cgroup not in Path(f"/proc/{pid}/cgroup").read_bytes():
                continue
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
            if pid == first or session_of(pid) == session:
                found.add(pid)
    while below := {pid for pid, parent in parents.items() if parent in found or parent in known} - found:
        found |= below
    for pid in pidfds.keys() - found:
        os.close(pidfds[pid])
    return {pid: pidfds[pid] for pid in found}


async def finish_kills(directory: Path) -> None:
    """Kill what works on something in ``directory`` and is stopped, with all at work on the same thing.

    Somebody who was killed in ``kill_at_work_on`` has left it so, and it would stay for ever.
    """
    for each in await asyncio.to_thread(_stopped_in, os.fsencode(directory)):
        await kill_at_work_on(directory / os.fsdecode(each))


def _stopped_in(directory: bytes) -> set[bytes]:
    """Return the names in ``directory`` that stopped processes work on."""
    found: set[bytes] = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):  # it has ended, or is no process
            if (entry / "stat").read_bytes().rpartition(b") ")[2].split()[0] == b"T":
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                below = [each.removeprefix(directory + b"/") for each in arguments if each.startswith(directory + b"/")]
                found |= {each.partition(b"/")[0] for each in below}
    return found


async def until_none_works_on(directory: Path) -> None:
    """Return when no process is left that was started with ``directory`` as an argument.

    One that forks and ends leaves a child with its arguments: that one is waited for as well.
    """
    while pidfds := await asyncio.to_thread(_started_with, os.fsencode(directory)):
        try:
            for pidfd in pidfds:
                await ended(pidfd)
        finally:
            for pidfd in pidfds:
                os.close(pidfd)


def _started_with(argument: bytes) -> list[int]:
    """Return a pidfd for each process that has ``argument`` on its command line."""
    found = []
    for _, pidfd, arguments in _processes(frozenset()):
        if argument in arguments:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _processes(known: Container[int]) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yield the pid, a pidfd that becomes the caller's and the arguments of each process that is not ``known``.

    One that ends while they are listed may have left a child that was not there yet: then they are listed once more.
    """
    seen: set[int] = set()
    looks = 0
    missed = True
    while missed:
        missed = False
        listed = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - seen
        seen |= listed
        for pid in listed:
            if pid in known:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                missed = True
                continue
            try:
                # Read when the descriptor is there already: the number is the same process's, or the read fails.
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                os.close(pidfd)
                missed = True
                continue
            if arguments == [b""]:
                missed = True  # it has ended and nobody has asked how, or it is the kernel's own
                if looks < _LOOKS_AT_EXEC and _has_program(pid):
                    looks += 1
                    os.close(pidfd)
                    seen.discard(pid)
                    os.sched_yield()
                    continue
            yield pid, pidfd, arguments


def _has_program(pid: int) -> bool:
    """Whether a process has a program: the kernel's own have none, nor has one that has ended."""
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{pid}/exe").readlink())
    return False


def _killed_at_work_on(directory: bytes) -> list[int]:
    """Return a pidfd for each, killed; stopped before, for one that runs could leave a child that nobody has seen."""
    found: dict[int, int] = {}
    while new := _at_work_on(directory, found):
        _signal(new.values(), signal.SIGSTOP)
        found |= new
    _signal(found.values(), signal.SIGKILL)
    return list(found.values())


def _signal(pidfds: Iterable[int], number: int) -> None:
    for pidfd in pidfds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)


def _at_work_on(directory: bytes, known: Mapping[int, int]) -> dict[int, int]:
    """Return, by pid, a pidfd for each process that works on ``directory`` and is not among the ``known``."""
    pidfds: dict[int, int] = {}
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, pidfd, arguments in _processes(known):
        pidfds[pid] = pidfd
        if directory in arguments:
            found.add(pid)
        with contextlib.suppress(OSError, IndexError):  # it has ended
            # After ") " come the state and the parent's pid; a process's name may hold anything.
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    while below := {pid for pid, parent in parents.items() if parent in found or parent in known} - found:
        found |= below
    for pid in pidfds.keys() - found:
        os.close(pidfds[pid])
    return {pid: pidfds[pid] for pid in found}


def runtime_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a runtime, and of a conmon that calls one. Nothing of it reaches a container.

    It is for the next call alone: the kernel's settings may be others afterwards.
    """
    # runc does one thing after the other: threads for each processor cost it a tenth of its time and win nothing.
    # conmon writes times with its own zone, and whoever reads them counts on their width.
    env = {"PATH": environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "GOMAXPROCS": "1", "TZ": "UTC"}
    if _memory_can_be_executed():
        # So that no container can write to it, crun executes a copy of itself: below this directory, as a mount of its
        # program on a file, or in memory if it cannot. If it is killed then, file and mount would stay for ever.
        env["_LIBCONTAINER_STATEDIR"] = os.devnull
    return env


def _memory_can_be_executed() -> bool:
    with contextlib.suppress(FileNotFoundError):
        return _MEMFD_NOEXEC.read_text().strip() == "0"
    return True


async def run(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> Completed:
    """Run a program to its end. When cancelled or out of time it is killed with its process group.

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
                os.killpg(process.pid, signal.SIGKILL)  # and whatever it has started
                process.wait()
        return Completed(code, _contents(out), _contents(err))
    finally:
        os.close(out)
        os.close(err)


def _contents(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
