"""Run one CNI plugin: a stranger's program, as root, that may hang, crash, or print whatever it likes.

It reads its configuration from a file in memory, so that one that never reads it makes nobody wait. It runs in a
session of its own, which is killed as a whole when it fails, its time is over or nobody waits for it; what an earlier
crid has left running is known by the variables that it was given.

Reference: CNI specification 1.1, section 2.
"""

import asyncio
import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crid.cni.model import Command, PluginError
from sampan.cancellation import to_the_end
from sampan.errors import UnavailableError
from sampan.json_types import JsonObject
from sampan.sys.processes import open_process

_MAX_OUTPUT_BYTES: Final = 1 << 20  # of stdout; a result has some hundred
_COMPLAINTS_BYTES: Final = 2000  # of stderr, from the end, that are shown
_PIECE_BYTES: Final = 64 << 10

# A program that the plugin has left behind may hold its output open.
_AFTER_EXIT_S: Final = 0.5

_KILLED_MS: Final = 2000
_GRACE_S: Final = 10.0  # for plugins of an earlier process

_TRY_AGAIN_LATER: Final = 11  # of "Error codes"

# Of crid's own environment these say what crid is to its supervisor, and nothing to a plugin.
_NOT_PASSED: Final = ("CNI_", "LISTEN_", "NOTIFY_SOCKET", "SAMPAN_")


@dataclass(frozen=True, slots=True)
class Call:
    """What a plugin is asked."""

    plugin: str  # its type
    command: Command
    document: JsonObject  # its configuration, on stdin
    variables: Mapping[str, str]  # CNI_… beside the command and the path


class Programs:
    """The directories that plugins are in."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)

    @property
    def path(self) -> str:
        """What plugins are told, to find those that they delegate to."""
        return ":".join(map(str, self._directories))

    def find(self, plugin: str) -> Path:
        """Return a plugin's program; blocks for a few stat(2).

        Raises:
            UnavailableError: there is none; it may still be installed.
        """
        for directory in self._directories:
            path = directory / plugin
            with suppress(OSError):
                if stat.S_ISREG(path.stat().st_mode) and os.access(path, os.X_OK):
                    return path
        raise UnavailableError(f"CNI plugin {plugin} is not in {self.path}: install it, or mend cni_bin_dirs")


async def run_plugin(programs: Programs, call: Call, timeout_s: float) -> object:
    """Run a plugin and return the JSON that it answers, None if it answers nothing; cancelled, it is killed.

    Raises:
        UnavailableError: it does not end in time, is not there, or asks to be tried again.
        PluginError: it refuses, fails, or does not answer with JSON.
    """
    program = programs.find(call.plugin)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED)}
    environment |= {"CNI_COMMAND": call.command.value, "CNI_PATH": programs.path, **call.variables}
    try:
        running = _Running(program, environment, json.dumps(call.document).encode())
    except OSError as error:  # a script without its interpreter, a program for another machine
        raise PluginError(call.plugin, call.command, f"{program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            await running.ended.wait()
            await running.said_all(_AFTER_EXIT_S)
    except TimeoutError:
        raise UnavailableError(
            f"CNI plugin {call.plugin} {call.command.value}: it did not end within {timeout_s:g} seconds and was killed"
        ) from None
    finally:
        code = await to_the_end(running.end())
    return _answer(call, code, running.output, running.complaints)


class _Running:
    """A plugin that runs.

    asyncio's own processes end for whoever waits when nobody holds their output any more; a plugin that leaves a daemon
    behind would never end.
    """

    def __init__(self, program: Path, environment: Mapping[str, str], config: bytes) -> None:
        """Start it. Raises OSError."""
        self.ended = asyncio.Event()  # it has, or it has said too much
        with ExitStack() as stack:
            stdin = os.memfd_create("config", os.MFD_CLOEXEC)
            stack.callback(os.close, stdin)
            os.write(stdin, config)
            os.lseek(stdin, 0, os.SEEK_SET)
            (out, stdout), (err, stderr) = os.pipe(), os.pipe()
            stack.callback(os.close, stdout)
            stack.callback(os.close, stderr)
            self.output = _Output(out, _MAX_OUTPUT_BYTES, self.ended.set)
            self.complaints = _Output(err, _COMPLAINTS_BYTES)
            try:
                self._process = subprocess.Popen(
                    [program],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                    umask=0o022,  # what plugins keep on the host has the modes that their authors meant
                )
            except OSError:
                self.output.close()
                self.complaints.close()
                raise
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self.ended.set)

    async def said_all(self, within_s: float) -> None:
        """Wait until nobody holds the output any more, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.output.whole.wait()
                await self.complaints.whole.wait()

    async def end(self) -> int:
        """Let go of it, killing it with all that it has started unless it has done its work; return its status."""
        loop = asyncio.get_running_loop()
        if self._process.poll() != 0:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        loop.remove_reader(self._pidfd)
        gone = asyncio.Event()
        loop.add_reader(self._pidfd, gone.set)
        await gone.wait()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.output.close()
        self.complaints.close()
        return self._process.wait()


class _Output:
    """What comes through a pipe, as far as anybody wants to know."""

    def __init__(self, fd: int, most: int, on_too_much: Callable[[], None] | None = None) -> None:
        """Without ``on_too_much`` the end of it is kept."""
        self._fd = fd
        self._most = most
        self._on_too_much = on_too_much
        self.data = bytearray()
        self.is_too_much = False
        self.whole = asyncio.Event()
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._fd, _PIECE_BYTES)
        except BlockingIOError:
            return
        self.data += piece
        if not piece:
            self.close()
        elif len(self.data) > self._most:
            if self._on_too_much is not None:
                self.is_too_much = True
                self.close()
                self._on_too_much()
            else:
                del self.data[: len(self.data) - self._most]

    def close(self) -> None:
        """Read no more; safe to repeat."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.whole.set()

    @property
    def text(self) -> str:
        """What there is, for people."""
        return bytes(self.data[-_COMPLAINTS_BYTES:]).decode(errors="replace").strip()


def _answer(call: Call, code: int, output: _Output, complaints: _Output) -> object:
    """Return what a plugin that has ended has answered."""
    if output.is_too_much:
        message = f"it wrote more than {_MAX_OUTPUT_BYTES >> 20} MiB and was killed"
        raise PluginError(call.plugin, call.command, message)
    text = output.data.strip()
    document: object = None
    if text:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            if not code:
                message = f"it answered something that is no JSON: {_shown(output.text)}"
                raise PluginError(call.plugin, call.command, message) from None
    if not code:
        return document
    if isinstance(document, dict) and (document.get("msg") or document.get("code")):
        raise _refusal(call, document)
    how = f"killed by {_signal(-code)}" if code < 0 else f"exit status {code}"
    said = complaints.text or output.text
    raise PluginError(call.plugin, call.command, f"{_shown(said)}: {how}" if said else f"it failed: {how}")


def _refusal(call: Call, document: JsonObject) -> Exception:
    code, message, details = (document.get(key) for key in ("code", "msg", "details"))
    words = ": ".join(_shown(str(each)) for each in (message, details) if each) or "it failed"
    number = code if isinstance(code, int) else 0
    if number == _TRY_AGAIN_LATER:
        return UnavailableError(f"CNI plugin {call.plugin} {call.command.value}: {words} (it asks to be tried again)")
    return PluginError(call.plugin, call.command, f"{words} (code {number})" if number else words, number)


def _shown(text: str) -> str:
    return text if len(text) <= _COMPLAINTS_BYTES else f"{text[:_COMPLAINTS_BYTES]}…"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill_left_behind(sandboxes: Collection[str], grace_s: float = _GRACE_S, proc: Path = Path("/proc")) -> int:
    """Wait for the plugins of sandboxes that an earlier crid has left running, and kill those that do not end; blocks.

    Two that work on one sandbox would undo each other's work, and one that is killed may leave what it was about to
    undo. Returns how many processes there were, with those that they have started.
    """
    if not sandboxes:
        return 0
    wanted = {f"CNI_CONTAINERID={sandbox}".encode() for sandbox in sandboxes}
    end, met = time.monotonic() + grace_s, set()
    # What is met may just have started another process, which has inherited the variables, too.
    while found := [pid for pid in _processes(proc) if _variables(proc, pid) & wanted]:
        met.update(found)
        for pid in found:
            with suppress(ProcessLookupError):
                descriptor = open_process(pid)
                try:
                    if (left_s := end - time.monotonic()) > 0:
                        _wait(descriptor, int(left_s * 1000))
                    else:
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        _wait(descriptor, _KILLED_MS)
                finally:
                    os.close(descriptor)
    return len(met)


def _wait(descriptor: int, longest_ms: int) -> None:
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    ended.poll(longest_ms)  # one that the kernel holds longer is met again


def _processes(proc: Path) -> list[int]:
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]


def _variables(proc: Path, pid: int) -> frozenset[bytes]:
    try:
        return frozenset((proc / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:  # it has ended, or is the kernel's
        return frozenset()
