"""mount(2) and umount2(2), and mount options as they are written in fstab and in OCI documents.

The bindings decide nothing; they raise OSError(errno, text, operand) and release the GIL while the kernel works.
"""

import ctypes
import errno
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.sys.libc import LIBC, check

# mount(2) copies one page of option data and overwrites its last byte with NUL. A longer string is cut, not refused,
# and a cut that falls between two layers of an overlay loses the rest unnoticed.
MAX_DATA_BYTES: Final = 4096 - 1

MS_RDONLY: Final = 1
MS_NOSUID: Final = 1 << 1
MS_NODEV: Final = 1 << 2
MS_NOEXEC: Final = 1 << 3
MS_SYNCHRONOUS: Final = 1 << 4
MS_REMOUNT: Final = 1 << 5
MS_MANDLOCK: Final = 1 << 6
MS_DIRSYNC: Final = 1 << 7
MS_NOSYMFOLLOW: Final = 1 << 8
MS_NOATIME: Final = 1 << 10
MS_NODIRATIME: Final = 1 << 11
MS_BIND: Final = 1 << 12
MS_REC: Final = 1 << 14
MS_SILENT: Final = 1 << 15
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25

_SYS_OPEN_TREE: Final = 428  # on every architecture
_SYS_MOVE_MOUNT: Final = 429
_OPEN_TREE_CLONE: Final = 1
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

# What a bind mount keeps from its source unless a second call, MS_REMOUNT | MS_BIND, changes it.
PER_MOUNT: Final = (
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME
    | MS_NOSYMFOLLOW
)  # fmt: skip

# What overlayfs takes for a separator has a backslash before it.
_ESCAPED: Final = re.compile(r"\\(.)")

# Each option with the bits that it sets and those that it takes back.
_FLAGS: Final[dict[str, tuple[int, int]]] = {
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "remount": (MS_REMOUNT, 0),
    "mand": (MS_MANDLOCK, 0),
    "nomand": (0, MS_MANDLOCK),
    "noatime": (MS_NOATIME, MS_RELATIME | MS_STRICTATIME),
    "atime": (0, MS_NOATIME),
    "nodiratime": (MS_NODIRATIME, 0),
    "diratime": (0, MS_NODIRATIME),
    "relatime": (MS_RELATIME, MS_NOATIME | MS_STRICTATIME),
    "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, MS_NOATIME | MS_RELATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "lazytime": (MS_LAZYTIME, 0),
    "nolazytime": (0, MS_LAZYTIME),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "silent": (MS_SILENT, 0),
    "loud": (0, MS_SILENT),
    "bind": (MS_BIND, 0),
    "rbind": (MS_BIND | MS_REC, 0),
}

# Propagation is set by a call of its own, after the mount is there.
_PROPAGATION: Final[dict[str, int]] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """A list of options, told apart by who reads them."""

    flags: int = 0  # for mount(2)
    data: str = ""  # for the file system, comma-separated
    propagation: int = 0  # for a second mount(2), 0 for none


def parse_options(options: Iterable[str]) -> MountOptions:
    """Sort ``options`` into flags, propagation and the file system's own data; later ones win.

    Raises:
        InvalidArgumentError: the data is longer than mount(2) passes on.
    """
    flags = 0
    propagation = 0
    rest: list[str] = []
    for option in options:
        if option in _FLAGS:
            gives, takes = _FLAGS[option]
            flags = (flags & ~takes) | gives
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option:
            rest.append(option)
    data = ",".join(rest)
    size = len(os.fsencode(data))
    if size > MAX_DATA_BYTES:
        raise InvalidArgumentError(f"mount options take {size} bytes, the most is {MAX_DATA_BYTES}")
    return MountOptions(flags, data, propagation)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2), one call: no option is parsed and none is added. Raises OSError naming ``target``."""
    result = LIBC.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(fstype) if fstype else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    check(result, target)


def bind(source: str, target: str, *, flags: int = 0, recursive: bool = False) -> None:
    """Bind ``source`` to ``target``, then give the mount the per-mount ``flags`` (MS_RDONLY, MS_NOSUID …).

    The kernel ignores such flags in the call that binds, so this takes two; when the second fails the bind is undone.
    Mounts below a recursive one keep their own flags.
    """
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if flags & PER_MOUNT:
        try:
            mount("", target, flags=MS_REMOUNT | MS_BIND | (flags & PER_MOUNT))
        except OSError:
            umount2(target, MNT_DETACH)
            raise


def mount_options(source: str, target: str, fstype: str, options: Iterable[str]) -> None:
    """Mount as mount(8) would with ``-o``: a bind in two calls, and propagation in another.

    Raises:
        InvalidArgumentError: the options are too long.
        OSError: the kernel refused; nothing is left mounted.
    """
    parsed = parse_options(options)
    if parsed.flags & MS_BIND and not parsed.flags & MS_REMOUNT:
        bind(source, target, flags=parsed.flags, recursive=bool(parsed.flags & MS_REC))
    else:
        mount(source, target, fstype, parsed.flags, parsed.data)
    if parsed.propagation:
        try:
            mount("", target, flags=parsed.propagation)
        except OSError:
            umount2(target, MNT_DETACH)
            raise


def mount_volatile(source: str, target: str, fstype: str, options: Sequence[str]) -> None:
    """Mount as ``mount_options`` does, an overlay in such a way that nothing waits for its upper directory's disk.

    That is for what nobody needs after a power cut. Else its unmounting has to wait until all that anybody has written
    to the file system below is on disk; only Linux before 5.10 still does so.

    Raises:
        InvalidArgumentError, OSError: as ``mount_options``.
    """
    unmark_volatile(options)
    try:
        mount_options(source, target, fstype, (*options, "volatile") if _work_directory(options) else options)
    except (InvalidArgumentError, OSError) as error:  # it is not known, or made the options too long
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        mount_options(source, target, fstype, options)
    unmark_volatile(options)


def unmark_volatile(options: Sequence[str]) -> None:
    """Let the overlay with these options be mounted again, which the kernel refuses after ``mount_volatile``.

    Its note is for those who would not know by themselves that the machine has lost its power meanwhile.
    """
    if (work := _work_directory(options)) is not None:
        with suppress(FileNotFoundError):
            note = work / "work/incompat/volatile"
            (note / "dirty").unlink(missing_ok=True)
            note.rmdir()


def _work_directory(options: Sequence[str]) -> Path | None:
    """Return the directory that an overlay works in, None if it has none."""
    named = [option.removeprefix("workdir=") for option in options if option.startswith("workdir=")]
    return Path(_ESCAPED.sub(r"\1", named[0])) if named else None


def clone_tree(place: int) -> int:
    """open_tree(2): return a descriptor of a copy of the mounts from ``place`` on, a descriptor itself, down.

    The copy is nowhere until ``attach``; it ends with its descriptor.

    Raises:
        OSError: EINVAL where a mount is unbindable, or ``place`` is in another mount namespace.
    """
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
    return check(LIBC.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(place), b"", ctypes.c_uint(flags)), "tree")


def attach(tree: int, target: int) -> None:
    """move_mount(2): put what ``clone_tree`` returned on ``target``, a descriptor of a file or directory."""
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)
    result = LIBC.syscall(ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(target), b"", flags)
    check(result, f"descriptor {target}")


def mount_table(content: bytes | None = None) -> list[str]:
    """Return the lines of ``/proc/self/mountinfo``, or of such a file's content (proc_pid_mountinfo(5)).

    The kernel escapes blanks, tabs, line feeds and backslashes of paths. Whatever else may be in a file's name stands
    there as it is: bytes that are not UTF-8, and what others take for the end of a line.
    """
    if content is None:
        content = Path("/proc/self/mountinfo").read_bytes()
    return os.fsdecode(content).removesuffix("\n").split("\n") if content else []


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError: EBUSY while anything still uses ``target``, EINVAL where nothing is mounted."""
    check(LIBC.umount2(os.fsencode(target), flags), target)
