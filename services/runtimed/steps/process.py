"""The process of a step: an OCI runtime in the foreground, its child, and the streams of both.

``<runtime> run`` stays until the container's first process has ended, and ends with that one's exit code. Its pid file
says that everything is set up. No conmon: nobody needs a step whose runtimed is gone.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from runtimed.conmon.conmon import CONTAINER_UMASK, RuntimeCommand
from runtimed.conmon.process import runtime_environ
from runtimed.conmon.running import last_error
from runtimed.oci.errors import step_error
from runtimed.steps.paths import StepPaths
from sampan.build.step import StepInput, StepProcess, StepSignal, StepStarted
from sampan.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ConflictError,
    InvalidArgumentError,
    SampanError,
    StartError,
)
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame, Stream
from sampan.sys.inotify import CLOSE_WRITE, MOVED_TO, FileWatches, Watch

# What is read at once: not all that a pipe holds, so that the process goes on while we pass it on.
_READ_BYTES: Final = 128 << 10
_PIPE_BYTES: Final = 256 << 10

# How soon after some output more of it is read. A message costs the same whatever is in it, and who writes line by line
# would be read line by line.
_GATHER_S: Final = 0.003

_PTS_MAJORS: Final = range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR and its successors

_ENDS_S: Final = 5.0  # the runtime, after the first process was killed: it removes the cgroup
_KEPT_ERRORS: Final = 4096  # characters of what a runtime said that did not start


class RuntimeProcess:
    """Runs one step. ``start`` it, read ``output`` to its end, and ``close`` it whatever happens."""

    def __init__(
        self, paths: StepPaths, runtime: RuntimeCommand, environ: Mapping[str, str], inside: StepPaths | None = None
    ) -> None:
        """``inside`` is a step that runs, whose further process this is, as ``paths.process`` says."""
        self._paths = paths
        self._inside = inside
        self._runtime = (inside or paths).runtime(runtime)
        self._environ = environ
        self._command = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: Watch | None = None  # of its directory
        self._runtime_pidfd = -1
        self._first_pidfd = -1  # of the step's first process
        self._outputs: dict[int, Stream] = {}
        self._input = -1  # pipe, or terminal
        self._terminal = False
        self._ended = asyncio.Event()
        self._set_up = asyncio.Event()
        self._changed = asyncio.Event()
        self._error: SampanError | None = None

    def pid(self) -> int:
        """Return the pid of the first process. ConflictError: it is not set up yet, or has ended."""
        if not self._set_up.is_set() or self._ended.is_set():
            raise ConflictError(f"step {self._paths.id} is not running")
        return int(self._paths.pid.read_text())

    @property
    def code(self) -> int:
        """The exit code, once ``output`` has come to its end."""
        assert self._process is not None
        return self._process.returncode

    def start(self, process: StepProcess, watches: FileWatches) -> None:
        """Start the runtime on the bundle. Raises StartError."""
        self._command = process.args[0]
        self._terminal = process.tty
        # The runtime writes its files there, or moves them there once they are whole.
        self._watch = watches.watch(self._paths.bundle, CLOSE_WRITE | MOVED_TO, self._look)
        theirs = self._make_terminal(process) if process.tty else self._make_pipes(process)
        try:
            self._process = self._spawn(*theirs)
        finally:
            for descriptor in {one for one in theirs if one >= 0}:
                os.close(descriptor)
        self._runtime_pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._runtime_pidfd, self._reap)

    def _spawn(self, stdin: int, stdout: int, stderr: int) -> "subprocess.Popen[bytes]":
        arguments: tuple[str, ...]
        before: tuple[str, ...] = ()
        if self._inside is None:
            before = self._runtime.creates_by
            bundle, pid = str(self._paths.bundle), str(self._paths.pid)
            arguments = ("run", "--bundle", bundle, "--pid-file", pid, self._paths.id)
        else:
            process, pid = str(self._paths.process), str(self._paths.pid)
            arguments = ("exec", "--process", process, "--pid-file", pid, self._inside.id)
        try:
            return subprocess.Popen(
                [*before, str(self._runtime.path), *self._runtime.arguments(self._paths.log), *arguments],
                cwd=self._paths.bundle,
                env=runtime_environ(self._environ),
                stdin=stdin if stdin >= 0 else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                umask=CONTAINER_UMASK,
            )
        except OSError as error:
            raise StartError(f"cannot start the OCI runtime {self._runtime.path}: {error.strerror}") from error

    def _make_pipes(self, process: StepProcess) -> tuple[int, int, int]:
        stdin = -1
        if process.open_stdin:
            stdin, self._input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._input, False)
        theirs = [stdin]
        for stream in (Stream.STDOUT, Stream.STDERR):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read_end, False)
            with contextlib.suppress(OSError):  # of all pipes of a user no more than so much
                fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._outputs[read_end] = stream
            theirs.append(write_end)
        return theirs[0], theirs[1], theirs[2]

    def _make_terminal(self, process: StepProcess) -> tuple[int, int, int]:
        """The runtime takes our terminal for a user's: it copies between that and the one that it makes inside."""
        ours, theirs = os.openpty()
        os.set_blocking(ours, False)
        self._input, self._outputs[ours] = ours, Stream.STDOUT
        if process.console_size is not None:
            _set_size(ours, process.console_size)
        return theirs, theirs, theirs

    def _look(self) -> None:
        """Take the first process from the pid file, if it is whole."""
        if self._first_pidfd >= 0:
            return
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._paths.pid.read_text())
            self._set_up.set()
            self._changed.set()
            self._first_pidfd = os.pidfd_open(pid)  # its parent is here and learns of its end no sooner than we may

    def _reap(self) -> None:
        assert self._process is not None
        asyncio.get_running_loop().remove_reader(self._runtime_pidfd)
        self._process.wait()
        self._look()
        self._ended.set()
        self._changed.set()

    def abort(self, error: SampanError) -> None:
        """Let ``output`` raise ``error``."""
        self._error = self._error or error
        self._changed.set()

    async def output(self) -> AsyncGenerator[StepStarted | Frame, None]:
        """Yield what the process writes, not read before it is asked for: who reads slowly slows the process down.

        Raises:
            StartError: the runtime could not start it; its kinds for the command's sake.
        """
        while not (self._set_up.is_set() or self._ended.is_set()):
            await self._change()
        if not self._set_up.is_set() and self.code:
            raise self._start_error()
        yield StepStarted()
        while True:
            ended, silent, behind = self._ended.is_set(), True, False
            for descriptor, stream in tuple(self._outputs.items()):
                while data := self._read(descriptor):
                    silent, behind = False, behind or len(data) == _READ_BYTES
                    yield Frame(stream, data)
                    if len(data) < _READ_BYTES:  # there is no more, or another stream's turn has come
                        break
            if self._error is not None:
                raise self._error
            if silent and ended:
                break
            if silent:
                await self._change()
            elif not behind:
                await self._gather()
        if self.code:
            self._tell_late_failure()

    async def _gather(self) -> None:
        """Let output come together, unless nothing more comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_S):
                await self._ended.wait()

    def _read(self, descriptor: int) -> bytes:
        """Return what is there; empty if there is nothing, and let go of a stream that has ended."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # of a terminal without a process
                raise
            data = b""
        if not data:
            del self._outputs[descriptor]
            if descriptor != self._input:
                os.close(descriptor)
        return data

    async def _change(self) -> None:
        """Return when there is something to read, or something has happened."""
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        watched = tuple(self._outputs) if self._set_up.is_set() else ()
        for descriptor in watched:
            loop.add_reader(descriptor, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)
        self._changed.clear()

    def _start_error(self) -> StartError:
        said = b"".join(self._read(descriptor) for descriptor in tuple(self._outputs))
        if self.code < 0:
            return self._killed_error()
        message = last_error(self._paths.log) or said.decode(errors="replace").strip()[:_KEPT_ERRORS]
        return self._step_error(message or f"{self._runtime.path} ended with {self.code}")

    def _tell_late_failure(self) -> None:
        """crun says only after everything is set up that the kernel refuses to execute a file."""
        if self.code < 0:
            raise self._killed_error()
        message = last_error(self._paths.log)
        error = self._step_error(message) if message else None
        if isinstance(error, CommandNotFoundError | CommandNotExecutableError):
            raise error

    def _step_error(self, message: str) -> StartError:
        return step_error(message, self._command, further=self._inside is not None)

    def _killed_error(self) -> StartError:
        return StartError(f"the OCI runtime {self._runtime.path} was killed by signal {-self.code}")

    async def feed(self, input: StepInput, process: StepProcess) -> None:
        """Pass on what the step gets, to the end of ``input``, which is the end of stdin."""
        try:
            async for item in input:
                match item:
                    case ConsoleSize():
                        await self._set_up.wait()
                        self._resize(item)
                    case StepSignal():
                        await self._set_up.wait()
                        self._signal(item.number)
                    case b"" if process.open_stdin:
                        self._end_input()
                    case _ if process.open_stdin:
                        await self._write(item)
                    case _:
                        raise InvalidArgumentError("the step's process has no stdin: ask for it with open_stdin")
        except SampanError as error:
            self.abort(error)
        self._end_input()

    def _end_input(self) -> None:
        if self._input >= 0 and not self._terminal:
            os.close(self._input)
            self._input = -1

    async def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self._input >= 0:
            try:
                left = left[os.write(self._input, left) :]
            except BlockingIOError:
                await _writable(self._input)
            except OSError:  # the process has closed it, or ended
                return

    def _resize(self, size: ConsoleSize) -> None:
        if not self._terminal:
            raise InvalidArgumentError("the step's process has no terminal: there is no size to set")
        _set_size(self._input, size)
        if self._process is not None and not self._ended.is_set():
            self._process.send_signal(signal.SIGWINCH)  # it is not our session's terminal that has changed
            with contextlib.suppress(OSError, ConflictError):  # it has ended, or uses its terminal no more
                self._resize_inside(size)

    def _resize_inside(self, size: ConsoleSize) -> None:
        """Set the size of the terminal that the process sees: crun does so only at its start."""
        stdin = os.open(f"/proc/{self.pid()}/fd/0", os.O_PATH | os.O_CLOEXEC)
        try:
            signal.pidfd_send_signal(self._first_pidfd, 0)  # what was opened is of that process, and of no later one
            if os.major(os.fstat(stdin).st_rdev) in _PTS_MAJORS:
                terminal = os.open(f"/proc/self/fd/{stdin}", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    _set_size(terminal, size)
                finally:
                    os.close(terminal)
        finally:
            os.close(stdin)

    def _signal(self, number: int) -> None:
        if self._first_pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_pidfd, number)

    async def kill(self) -> bool:
        """Kill the first process, and by that every other of its pid namespace; say whether the runtime has ended."""
        if self._process is None or self._ended.is_set():
            return True
        if self._first_pidfd < 0:
            return False
        self._signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(_ENDS_S):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Kill the runtime, whose children are dead, and return when it has ended.

        Who looks for it by its arguments may have looked before execve(2) had put them in place.
        """
        if self._process is not None and not self._ended.is_set():
            self._process.kill()
            await self._ended.wait()

    def close(self) -> None:
        """Let go of everything."""
        if self._watch is not None:
            self._watch.close()
        if self._process is not None and not self._ended.is_set():
            asyncio.get_running_loop().remove_reader(self._runtime_pidfd)
        for descriptor in {*self._outputs, self._input, self._runtime_pidfd, self._first_pidfd} - {-1}:
            os.close(descriptor)
        self._outputs.clear()
        self._input = self._runtime_pidfd = self._first_pidfd = -1


def _set_size(terminal: int, size: ConsoleSize) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.height, size.width, 0, 0))


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
