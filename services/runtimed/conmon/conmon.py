"""Start conmon, the small process that stays beside each container and exec, and understand what it reports.

conmon keeps the standard streams, the log, the terminal and the exit status, so that runtimed may come and go.
What is known of it (2.1.6): it removes ``<exit-dir>/<id>`` and ``<socket-dir>/<token>`` before it makes its own; it
reports one JSON object per line through the pipe named by _OCI_SYNCPIPE, first the pid or a negative number with the
runtime's message, and for an exec the exit code when that has ended; before an attached exec starts it tells through
_OCI_ATTACHPIPE that its socket listens, and waits for a second byte in _OCI_STARTPIPE.
"""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from runtimed.conmon.process import kill_at_work_on, reap, runtime_environ
from runtimed.conmon.running import last_error
from runtimed.containers.paths import ContainerPaths, ExecPaths
from sampan.errors import StartError, UnavailableError

# A runtime that hangs must not hold a container's lock for ever; a busy machine takes seconds at most.
_START_TIMEOUT_S: Final = 120.0

# What a container's processes begin with, as dockerd's do; ours would close what they make to their own other users.
CONTAINER_UMASK: Final = 0o022

_RUNTIME_LOG: Final = "oci.log"  # in a bundle: what the runtime said to conmon's calls

# What has a runtime ask systemd for the control group of what it makes, as the bundle names it.
SYSTEMD_OPTION: Final = "--systemd-cgroup"

# The runtime's debug output is of no use to anybody but would be parsed for messages.
_LOG_LEVEL: Final = "error"


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """Which OCI runtime conmon shall call, and with what before the command."""

    path: Path
    root: Path  # its state directory
    creates_by: tuple[str, ...] = ()  # the words before its path when it is to make a container
    hides_null: bool = False  # it is to see nothing of the host's /dev/null
    asks_systemd: bool = False  # for the control groups of what it makes

    def arguments(self, log: Path) -> tuple[str, ...]:
        """The global options, for calls by conmon and by ourselves alike."""
        # Not conmon's own option for it, which comes before the words that are between conmon and the runtime.
        further = (SYSTEMD_OPTION,) if self.asks_systemd else ()
        return ("--root", str(self.root), "--log", str(log), "--log-format", "json", *further)


@dataclass(frozen=True, slots=True)
class Stdio:
    """How a process's standard streams are kept."""

    tty: bool
    stdin: bool
    # Keep stdin open after a client that was attached to it has left.
    leave_stdin_open: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One message through the sync pipe: a pid or an exit code, or, with a message, a failure."""

    value: int
    message: str = ""


class ReportPipe:
    """The reading end of a pipe that a conmon reports through."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self._buffer = b""

    async def next(self) -> Report | None:
        """Return the next report; None when conmon has closed its end.

        Raises:
            StartError: what came is not a report.
        """
        while b"\n" not in self._buffer:
            if not await self._fill():
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            fields = json.loads(line)
            return Report(int(fields["data"]), str(fields.get("message", "")))
        except (ValueError, KeyError, TypeError):
            raise StartError(f"conmon reported {line[:200]!r}, which is no report") from None

    async def _fill(self) -> bool:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self.read_end, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self.read_end)
        piece = os.read(self.read_end, 65536)
        self._buffer += piece
        return bool(piece)

    def close_write_end(self) -> None:
        """Leave the writing to conmon, so that its end is seen."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Close both ends; conmon does not mind."""
        self.close_write_end()
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Conmon:
    """Starts conmon processes. They are children of init at once, whether or not runtimed lives on."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ

    async def create(self, paths: ContainerPaths, runtime: RuntimeCommand, stdio: Stdio, spool: Path | None) -> int:
        """Have the container in ``paths.bundle`` created; return the pid of its first process, which waits for start.

        What it writes is appended to ``spool``; None: it is written down nowhere.

        Raises:
            StartError: with the runtime's own message.
        """
        argv = [
            *self._common(paths.id, paths.token, runtime, stdio, paths.bundle, runtime.creates_by),
            *("--exit-dir", str(paths.paths.exits), "--socket-dir-path", str(paths.paths.sockets)),
            *_log_arguments(spool),
            *_stdio_arguments(stdio),
        ]
        with ReportPipe() as pipe:
            report = await self._spawn(argv, paths.bundle, pipe, ())
        return report.value

    async def exec_detached(
        self, container_id: str, paths: ExecPaths, runtime: RuntimeCommand, stdio: Stdio, spec: Path
    ) -> int:
        """Run the process in ``spec`` in the container; return its pid.

        Raises:
            StartError: with the runtime's own message.
        """
        with ReportPipe() as pipe:
            argv = self._exec_arguments(container_id, paths, runtime, stdio, spec)
            report = await self._spawn(argv, paths.bundle, pipe, (pipe.read_end,))
        return report.value

    async def exec_attached(
        self,
        container_id: str,
        paths: ExecPaths,
        runtime: RuntimeCommand,
        stdio: Stdio,
        spec: Path,
        *,
        released: bool = False,
    ) -> "PendingExec":
        """Prepare the process in ``spec``: its attach socket listens, and conmon calls the runtime when released.

        ``released`` from the beginning is right where the runtime itself has to wait for what is in ``spec``.

        Raises:
            StartError: conmon did not come that far.
        """
        argv = [*self._exec_arguments(container_id, paths, runtime, stdio, spec), "--exec-attach"]
        pending = PendingExec()
        try:
            await pending.prepare(self, argv, paths.bundle, released=released)
        except BaseException:
            pending.close()
            raise
        return pending

    def _common(
        self, id: str, token: str, runtime: RuntimeCommand, stdio: Stdio, bundle: Path, called_by: Sequence[str] = ()
    ) -> list[str]:
        hidden = _without_null(stdio) if runtime.hides_null else ()
        program, *before = (*hidden, *called_by, str(runtime.path))
        argv = [str(self._path), "--api-version", "1", "-c", id, "-u", token, "-r", program]
        argv += ["-b", str(bundle), "-p", str(bundle / "pidfile"), "-P", str(bundle / "conmon.pid")]
        # fsync at exit would make every short container wait for the disk, and protects nothing that is promised.
        argv += ["--no-sync-log", "--log-level", _LOG_LEVEL]
        for argument in (*before, *runtime.arguments(bundle / _RUNTIME_LOG)):
            argv += ["--runtime-arg", argument]
        return argv

    def _exec_arguments(
        self, container_id: str, paths: ExecPaths, runtime: RuntimeCommand, stdio: Stdio, spec: Path
    ) -> list[str]:
        return [
            *self._common(container_id, paths.token, runtime, stdio, paths.bundle),
            *("--exit-dir", str(paths.exits), "--socket-dir-path", str(paths.paths.sockets)),
            *_log_arguments(None),
            *_stdio_arguments(stdio),
            *("-e", "--exec-process-spec", str(spec)),
        ]

    async def _spawn(self, argv: Sequence[str], cwd: Path, pipe: ReportPipe, fds: Sequence[int]) -> Report:
        errors = os.memfd_create("conmon-stderr", os.MFD_CLOEXEC)
        try:
            process = self.popen(argv, cwd, pipe, {}, fds, errors)
            return await _first_report(process, pipe, errors, cwd)
        finally:
            os.close(errors)

    def popen(
        self,
        argv: Sequence[str],
        cwd: Path,
        pipe: ReportPipe,
        env: Mapping[str, str],
        fds: Sequence[int],
        stderr: int,
    ) -> "subprocess.Popen[bytes]":
        """Start conmon with ``pipe`` and ``fds``, and nothing else of ours, open in it."""
        # The working directory matters: conmon leaves its note of an out-of-memory kill there.
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env={**runtime_environ(self._environ), **env, "_OCI_SYNCPIPE": str(pipe.write_end)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(pipe.write_end, *fds),
                start_new_session=True,
                umask=CONTAINER_UMASK,
            )
        except OSError as error:
            raise StartError(f"cannot start conmon {argv[0]}: {error.strerror}") from error
        pipe.close_write_end()
        return process


class PendingExec:
    """An exec whose streams can be attached before it starts. Close it when done with it; the process goes on."""

    def __init__(self) -> None:
        self._reports = ReportPipe()
        self._attached = ReportPipe()
        self._errors = os.memfd_create("conmon-stderr", os.MFD_CLOEXEC)
        self._start_read, self._start_write = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._bundle = Path()

    async def prepare(self, conmon: Conmon, argv: Sequence[str], cwd: Path, *, released: bool) -> None:
        """Start conmon and return when its attach socket listens."""
        self._bundle = cwd
        self._process = conmon.popen(
            argv,
            cwd,
            self._reports,
            {"_OCI_STARTPIPE": str(self._start_read), "_OCI_ATTACHPIPE": str(self._attached.write_end)},
            # Its own reading end of the reports: with nobody there to read the pid conmon would end, and the exit code
            # of a process that has begun would be lost with it. A container that has begun is cleared away instead.
            (self._start_read, self._attached.write_end, self._reports.read_end),
            self._errors,
        )
        self._attached.close_write_end()
        os.close(self._start_read)
        self._start_read = -1
        self._go()
        if released:
            os.close(self._start_write)  # it takes the end of the pipe for the word
            self._start_write = -1
        async with _deadline(cwd, self._process):
            if await self._attached.next() is None:
                raise StartError(f"conmon did not start: {_text(self._errors)}")

    async def start(self) -> int:
        """Let it run; return the pid.

        Raises:
            StartError: with the runtime's own message.
        """
        self._go()
        return await self.started()

    async def started(self) -> int:
        """Return the pid once the runtime has started the process.

        Raises:
            StartError: with the runtime's own message.
        """
        assert self._process is not None
        return (await _first_report(self._process, self._reports, self._errors, self._bundle)).value

    async def settled(self) -> None:
        """Return when conmon's pid is written down: its first process does that, and ends."""
        if self._process is not None:
            async with _deadline(self._bundle, self._process):
                await reap(self._process)

    async def exit_code(self) -> int | None:
        """Return the exit code when the process has ended; None if conmon was killed and nobody knows it."""
        report = await self._reports.next()
        return None if report is None else report.value

    def _go(self) -> None:
        try:
            os.write(self._start_write, b"\0")
        except BrokenPipeError:
            raise StartError(f"conmon ended: {_text(self._errors)}") from None

    def close(self) -> None:
        """Let go of conmon; safe to repeat."""
        self._reports.close()
        self._attached.close()
        for fd in (self._start_read, self._start_write, self._errors):
            if fd >= 0:
                os.close(fd)
        self._start_read = self._start_write = self._errors = -1


@contextlib.asynccontextmanager
async def _deadline(bundle: Path, process: "subprocess.Popen[bytes]") -> AsyncIterator[None]:
    """Bound a wait for the conmon at work on ``bundle``, and end it and its runtime when the time is over.

    ``process`` is the one of ours that it began as.

    Raises:
        UnavailableError: it was.
    """
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            yield
    except TimeoutError:
        # They would go on, and could start a process whose container has been cleared or removed by then.
        await kill_at_work_on(bundle)
        process.poll()  # takes it away, since nobody waits for it any more
        raise UnavailableError(f"the runtime did not answer within {_START_TIMEOUT_S:g} s") from None


async def _first_report(process: "subprocess.Popen[bytes]", pipe: ReportPipe, errors: int, bundle: Path) -> Report:
    async with _deadline(bundle, process):
        report = await pipe.next()
        await reap(process)  # conmon's first process, which has long left the second one to itself
    if report is None:
        # One that waits for a terminal says nothing of a runtime that fails before it makes one, as crun's exec does.
        if why := await asyncio.to_thread(last_error, bundle / _RUNTIME_LOG):
            raise StartError(why)
        raise StartError(f"conmon ended before the process ran: {_text(errors) or 'it said nothing'}")
    if report.value < 0 or report.message:
        raise StartError(report.message.strip() or f"the runtime failed ({report.value}): {_text(errors)}")
    return report


def _text(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode(errors="replace").strip()


def _without_null(stdio: Stdio) -> tuple[str, ...]:
    """Return the words before a runtime by which it has pipes where conmon gives it the host's /dev/null.

    crun gives its standard streams to the user that the process is. In a user namespace there are no device nodes but
    the host's own, and a container that owns one can change its mode for everybody.
    """
    if stdio.tty:
        return ("/bin/sh", "-c", ': | "$0" "$@" >&2')  # the process has a terminal instead of either
    return () if stdio.stdin else ("/bin/sh", "-c", ': | "$0" "$@"')


def _log_arguments(path: Path | None) -> list[str]:
    return ["-l", "none:" if path is None else f"k8s-file:{path}"]


def _stdio_arguments(stdio: Stdio) -> list[str]:
    return [
        *(["-t"] if stdio.tty else []),
        *(["-i"] if stdio.stdin else []),
        *(["--leave-stdin-open"] if stdio.leave_stdin_open else []),
    ]
