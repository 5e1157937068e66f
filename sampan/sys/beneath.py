"""Files below a directory, reached so that no link leads out of it. Needs Linux 5.6, for openat2(2).

Reference: openat2(2); statfs(2), "f_type"; the kernel's include/uapi/linux/magic.h.
"""

import ctypes
import os
from typing import Final

from sampan.sys.libc import LIBC, check

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

RESOLVE_NO_MAGICLINKS: Final = 0x02  # those of /proc/<pid>, which lead anywhere without a path
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

_SYS_OPENAT2: Final = 437  # on every architecture

# File systems through which the kernel speaks. Their files have no content before they are read, or no end, or reading
# them waits or does things; in an archive they are of no use.
_KERNEL_FILE_SYSTEMS: Final = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x5A3C69F0,  # apparmorfs
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x42494E4D,  # binfmt_misc
        0x62656570,  # configfs
        0x65735543,  # fusectl
        0x6E736673,  # nsfs
        0x7655821,  # resctrl
        0x67596969,  # rpc_pipefs
        0x6C6F6F70,  # binder
        0x187,  # autofs, which mounts what is looked at
    }
)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str | bytes, flags: int, resolve: int) -> int:
    """openat2(2), close-on-exec.

    Raises:
        OSError: with ``path`` as its operand. ELOOP: a link that ``resolve`` forbids; EXDEV: the path leads out of what
            RESOLVE_BENEATH allows; EAGAIN: something was renamed or mounted meanwhile, and ".." cannot be trusted.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    result = LIBC.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    return check(result, os.fsdecode(path))


def open_directory(root: int, path: bytes) -> int:
    """Return a new descriptor of the directory ``path`` below ``root``: one openat(2) per component, none a link.

    ``path`` is relative, and empty for the root itself; ``..`` is the caller's to refuse.

    Raises:
        FileNotFoundError, NotADirectoryError: a component is missing, or is a link or a file.
    """
    fd = os.open(".", OPEN_DIRECTORY, dir_fd=root)
    if not path:
        return fd
    for name in path.split(b"/"):
        parent = fd
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    return fd


def of_kernel_file_system(fd: int) -> bool:
    """Say whether an open file, O_PATH will do, is on a file system such as proc or sysfs. Raises OSError."""
    status = (ctypes.c_long * 32)()  # larger than any struct statfs, whose first word is the type
    check(LIBC.fstatfs(ctypes.c_int(fd), ctypes.byref(status)), "fstatfs")
    return status[0] & 0xFFFFFFFF in _KERNEL_FILE_SYSTEMS
