"""The size of a process's terminal, set before the process can ask for it.

crun makes an exec's terminal in the process that becomes the exec's, which does not wait while crun sets the size: on
a busy machine it looks first and finds none. So the process is held where it opens its program: the kernel asks a
fanotify(7) group for leave to execute, and gets it when the terminal has its size. The group is asked for whatever is
executed from the container's mounts meanwhile, and allows everything. When runtimed is killed the group is gone, and
the kernel lets go of all that it held.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import re
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from sampan.log import log
from sampan.resource.container_spec import ConsoleSize
from sampan.sys.beneath import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from sampan.sys.libc import LIBC, check

# From <sys/fanotify.h>.
_CLOEXEC: Final = 0x1
_NONBLOCK: Final = 0x2
_CLASS_CONTENT: Final = 0x4  # asks before an access, where the default tells of it afterwards
_MARK_ADD: Final = 0x1
_MARK_MOUNT: Final = 0x10
_OPEN_EXEC_PERM: Final = 0x4_0000
_ALLOW: Final = 1
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")  # length, version, reserved, length of this, mask, descriptor, pid
_ANSWER: Final = struct.Struct("=iI")
_READ_BYTES: Final = 4096

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


def set_terminal_size(pid: int, size: ConsoleSize) -> None:
    """Set the size of the terminal that is ``pid``'s standard input; the process hears of it by SIGWINCH.

    Raises:
        OSError: it has ended, or its standard input is no terminal.
    """
    # O_NOCTTY: it must not become our own.
    terminal = os.open(f"/proc/{pid}/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.height, size.width, 0, 0))
    finally:
        os.close(terminal)


@contextlib.asynccontextmanager
async def sized_before_it_runs(container_pid: int, bundle: Path, size: ConsoleSize | None) -> AsyncIterator[None]:
    """Hold the exec that a runtime starts meanwhile until its terminal has ``size``; None: hold nothing.

    The exec is known by ``bundle``, which its runtime has been called with: a command line that the process keeps up to
    the program of its own. Where the kernel has no such question, the size is the runtime's to set.
    """
    if size is None:
        yield
        return
    try:
        group = check(LIBC.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC), "fanotify")
    except OSError as error:
        _warn(error)
        yield
        return
    loop = asyncio.get_running_loop()
    try:
        # Before the marks: whatever is held in between would wait for us in vain.
        loop.add_reader(group, _answer, group, os.fsencode(bundle), size)
        await asyncio.to_thread(_mark_mounts, group, container_pid)
        yield
    finally:
        loop.remove_reader(group)
        # What has been asked and not answered is allowed. In a thread: the kernel waits until nobody uses the marks.
        await asyncio.to_thread(os.close, group)


def _warn(error: OSError) -> None:
    log.warning("an exec may run before its terminal has a size", reason=error.strerror)


def _mark_mounts(group: int, pid: int) -> None:
    """Have the group asked before anything is executed from a mount of the container. A mount is nobody else's."""
    with contextlib.suppress(OSError):  # the container has ended
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for target in _executable_mounts(Path(f"/proc/{pid}/mountinfo").read_bytes()):
                try:
                    _mark(group, root, target)
                except OSError as error:
                    # Any other is unmounted or hidden meanwhile, or of a kind that cannot be asked about, as procfs.
                    if target == b"/" and error.errno == errno.EINVAL:  # the kernel is built without such questions
                        _warn(error)
                        return
        finally:
            os.close(root)


def _mark(group: int, root: int, target: bytes) -> None:
    mount = openat2(root, target, os.O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    try:
        # By its path in /proc: fanotify_mark(2) takes no O_PATH descriptor, and another one would open the target.
        path = f"/proc/self/fd/{mount}".encode()
        marked = LIBC.fanotify_mark(group, _MARK_ADD | _MARK_MOUNT, ctypes.c_uint64(_OPEN_EXEC_PERM), _AT_FDCWD, path)
        check(marked, os.fsdecode(target))
    finally:
        os.close(mount)


def _executable_mounts(mountinfo: bytes) -> Iterator[bytes]:
    for line in mountinfo.removesuffix(b"\n").split(b"\n"):  # not at b"\r", which a path may have
        fields = line.split(b" ")
        if b"noexec" not in fields[5].split(b","):
            yield _OCTAL.sub(lambda match: bytes((int(match[1], 8),)), fields[4])


def _answer(group: int, bundle: bytes, size: ConsoleSize) -> None:
    """Allow what has been asked for, after the terminal of the exec of ``bundle`` has its size."""
    try:
        events = os.read(group, _READ_BYTES)
    except BlockingIOError:
        return
    at = 0
    while at < len(events):
        length, _, _, _, _, file, pid = _EVENT.unpack_from(events, at)
        at += length
        if file < 0:  # the queue has run over, and the kernel has allowed what did not fit
            continue
        with contextlib.ExitStack() as held:
            held.callback(os.close, file)
            # Whatever comes of the size: who is not answered waits. Taken as well when it has been killed meanwhile.
            held.callback(os.write, group, _ANSWER.pack(file, _ALLOW))
            with contextlib.suppress(OSError):  # it has been killed
                if bundle in Path(f"/proc/{pid}/cmdline").read_bytes():
                    set_terminal_size(pid, size)
