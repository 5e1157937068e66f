"""The forked process of a warm start: learns who has called, becomes the caller, and runs the command.

Until it has said that it begins, it ends without a word where anything is amiss, and its client runs the command.
"""

import atexit
import fcntl
import io
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from sampan.handing import passing
from sampan.sys.command_line import show_command_line
from sampan.sys.processes import set_name, stand_for
from sampan_cli.warm import becoming
from sampan_cli.warm.caller import Standing, refusal
from sampan_cli.warm.request import (
    BEGUN,
    EXITED,
    GREETING,
    LENGTH_BYTES,
    MAX_DESCRIPTORS,
    MAX_REQUEST_BYTES,
    OWN_DESCRIPTORS,
    Request,
    code_of,
)

# A client that has been greeted answers at once; one that is stopped can come back to nobody and do without.
_REQUEST_S: Final = 10.0

_CREDENTIALS: Final = struct.Struct("iII")  # ucred: pid, uid, gid
_F_SETSIG: Final = 10

_STDERR: Final = 2

_UNFINISHED: Final = 120  # the interpreter's exit code where what is left to write cannot be written


@dataclass(frozen=True, slots=True)
class Warm:
    """What the process that was forked from knows: its own standing, its code, and what runs a command line."""

    own: Standing
    is_current: Callable[[], bool]  # whether its code is what is on disk
    run: Callable[[Sequence[str]], None]


class _DeclinedError(Exception):
    """The command is not to be run here."""


def work_when_told(line: socket.socket, warm: Warm) -> NoReturn:
    """Wait for the one client that comes on ``line``, in a process that was forked before; end with the line."""
    try:
        becoming.close_all_but(line.fileno())
        with suppress(OSError):  # it is called like what it was forked from, then
            show_command_line([sys.executable, "-m", "sampan_cli.warm.worker"])
        _, descriptors = passing.receive(line, 1, 1)
        if descriptors:
            work(socket.socket(fileno=descriptors[0]), warm)
    finally:
        os._exit(0)


def work(connection: socket.socket, warm: Warm) -> NoReturn:
    """Serve one client, in a process that was forked for it."""
    begun = False
    try:
        line = _move(connection)
        becoming.close_all_but(line.fileno())
        request, descriptors, caller, pid = _meet(line, warm)
        _become(request, descriptors, caller, warm.own)
        stand_for(pid)
        line.settimeout(None)
        _end_with(line)
        _show(request)
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(line, [BEGUN], [pidfd])
        os.close(pidfd)
        begun = True
        becoming.take_signals(caller)
        code = _finish(_run(request, warm))
        line.send(EXITED + bytes([code & 0xFF]))
    except (_DeclinedError, OSError, ValueError):
        if begun:
            traceback.print_exc()
    finally:
        os._exit(0)


def _meet(connection: socket.socket, warm: Warm) -> tuple[Request, list[int], Standing, int]:
    """Return what the client asks for, the descriptors that it passes, who it is, and its pid.

    The number that the kernel has for who connected may be another process's by now. So the directory of that number is
    opened first, the client asked next, whose answer bears the number of who sends it, and the directory read last: it
    can be read for as long as its own process lives, so that process is the sender.
    """
    connection.settimeout(_REQUEST_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    peer = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    pid = peer[0]
    directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection.send(GREETING)
    request, descriptors, sender = _receive(connection)
    if sender != peer:
        raise _DeclinedError("sent by another process than connected")
    caller = Standing.of(pid, directory)
    os.close(directory)
    if (caller.uids[0], caller.gids[0]) != peer[1:]:
        raise _DeclinedError("another user than connected")
    if (why := refusal(caller, warm.own)) is not None:
        raise _DeclinedError(why)
    if request.code != own_code() or not warm.is_current():
        raise _DeclinedError("other code")
    return request, descriptors, caller, pid


def own_code() -> bytes:
    """Name the code that this process runs."""
    return code_of(sys.executable, sys.hexversion, sys.getfilesystemencoding(), str(Path(__file__).parent))


def _receive(connection: socket.socket) -> tuple[Request, list[int], tuple[int, int, int]]:
    """Return the request, what came with it, and the sender's pid, uid and gid as the kernel has stamped them."""
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * (OWN_DESCRIPTORS + MAX_DESCRIPTORS))
    head, ancillary, flags, _ = connection.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    sender = (0, 0, 0)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            sender = _CREDENTIALS.unpack(data)
    if flags & socket.MSG_CTRUNC or len(head) < LENGTH_BYTES:
        raise _DeclinedError("a request that is cut off")
    length = int.from_bytes(head[:LENGTH_BYTES], "big")
    if length > MAX_REQUEST_BYTES:
        raise _DeclinedError("a request that is too long")
    body = bytearray(head[LENGTH_BYTES:])
    while len(body) < length:
        chunk, more, _, _ = connection.recvmsg(min(length - len(body), 1 << 20), room, socket.MSG_CMSG_CLOEXEC)
        if not chunk or any(kind == socket.SCM_RIGHTS for _, kind, _ in more):
            raise _DeclinedError("a request that is cut off")
        body += chunk
    request = Request.decode(bytes(body))
    if len(descriptors) != OWN_DESCRIPTORS + len(request.descriptors):
        raise _DeclinedError("descriptors that are missing")
    return request, descriptors, sender


def _become(request: Request, descriptors: list[int], caller: Standing, own: Standing) -> None:
    directory, *rest = becoming.park(descriptors)
    becoming.become(caller, own)
    becoming.take_descriptors(directory, rest, [0, 1, 2, *request.descriptors])
    becoming.take_environment(request.environment)
    time.tzset()
    _open_streams([each.decode("ascii") for each in request.encodings])


def _open_streams(encodings: Sequence[str]) -> None:
    """Make the three streams as the client's interpreter has made its own."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        encoding, errors = encodings[2 * number : 2 * number + 2]
        through = unbuffered and number > 0
        binary = open(number, "wb" if number else "rb", 0 if through else -1, closefd=False)  # noqa: SIM115  # for good
        stream = io.TextIOWrapper(
            binary,
            encoding=encoding,
            errors=errors,
            line_buffering=number == _STDERR or os.isatty(number),
            write_through=through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _move(connection: socket.socket) -> socket.socket:
    """Return the connection under a number that no descriptor of the client's has."""
    (fd,) = becoming.park([connection.detach()])
    return socket.socket(fileno=fd)


def _end_with(line: socket.socket) -> None:
    """Have the kernel kill this process when the client has gone, whatever either of them does then.

    A client says nothing more, so that its end is all that can make its line readable. Reference: fcntl(2), F_SETSIG.
    """
    fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(line, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    raise _DeclinedError("the client has gone, or says more than it should")


def _show(request: Request) -> None:
    """Look in `ps` like the command that this process is."""
    set_name("sampan")
    try:
        show_command_line(["sampan", *map(os.fsdecode, request.arguments)])
    except OSError:  # of a kernel without the means: it is called like what it was forked from
        return


def _run(request: Request, warm: Warm) -> int:
    """Run the command as an interpreter would that began with it; return the exit code."""
    arguments = [os.fsdecode(each) for each in request.arguments]
    sys.argv[:] = ["sampan", *arguments]
    try:
        warm.run(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201  # as the interpreter does
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001  # likewise
        traceback.print_exc()
        return 1
    return 0


def _finish(code: int) -> int:
    """Do what an interpreter does at its end, and return the exit code."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are not daemons
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"Exception ignored in: {sys.stdout!r}\n{type(error).__name__}: {error}\n")
        code = _UNFINISHED
    sys.stderr.flush()
    return code
