"""User namespaces, and mounts that show owners by other IDs.

A user namespace belongs to a process, and takes one of a single thread to make: a small one, which ends as soon as the
namespace is held by a descriptor or a file.

Reference: user_namespaces(7), mount_setattr(2), "ID-mapped mounts"; Linux 5.12, for layers of an overlay 5.19.
"""

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.sys.libc import LIBC, check
from sampan.sys.mounts import bind

# First ID inside, what that is outside, how many.
Range = tuple[int, int, int]

_SYS_MOUNT_SETATTR: Final = 442  # on every architecture
_MOUNT_ATTR_IDMAP: Final = 0x00100000
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000


@contextmanager
def process_within(*command: str) -> Iterator[int]:
    """Give the pid of a process that ``command`` has brought into namespaces, and end it after that.

    Raises:
        OSError: the program is not there, or the kernel refuses.
    """
    # cat(1) answers once it is where it is to be, and ends with its input.
    with subprocess.Popen(
        [*command, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):  # it says why
            process.stdin.write(b"\n")
        if process.stdout.read(1) != b"\n":
            why = process.stderr.read(500).decode(errors="replace").strip()
            raise OSError(None, why or "it ended", " ".join(command))
        try:
            yield process.pid
        finally:
            process.stdin.close()


def make_users(uids: Sequence[Range], gids: Sequence[Range]) -> int:
    """Return a descriptor of a new user namespace, the caller's to close. Raises OSError."""
    with process_within("unshare", "--user") as pid:
        for name, ranges in (("uid_map", uids), ("gid_map", gids)):
            lines = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
            Path(f"/proc/{pid}/{name}").write_text(lines)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def hold(users: int, path: Path) -> None:
    """Keep the user namespace behind a descriptor as a file: a bind mount at ``path``."""
    path.touch(0o444)
    bind(f"/proc/self/fd/{users}", str(path))


def create_network(path: Path, users: Path) -> None:
    """Make a network namespace that belongs to the user namespace ``users``, and keep it as a file at ``path``."""
    path.touch(0o444)
    try:
        with process_within("nsenter", f"--user={users}", "unshare", "--net") as pid:
            bind(f"/proc/{pid}/ns/net", str(path))
    except OSError:
        path.unlink()
        raise


def map_owners(tree: int, users: int) -> None:
    """mount_setattr(2): have ``tree``, of ``mounts.clone_tree``, show an owner as the user namespace maps it.

    Raises:
        OSError: EINVAL where a file system in it cannot do that.
    """
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, users)
    result = LIBC.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(tree),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    check(result, "mapped owners")
