"""A pod's namespaces without a process: files that hold them, made by a thread that ends.

unshare(2) moves the calling thread alone into new network, ipc and uts namespaces; what it sets there (the host name,
sysctls) it sets before it ends. A namespace lives on as a bind mount of ``/proc/thread-self/ns/<kind>``. One of users
needs a process, which ends as soon as its files are there.
"""

import ctypes
import errno
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from crid.model.security import UserNamespace
from sampan.errors import InvalidArgumentError
from sampan.sys.idmaps import process_within
from sampan.sys.libc import LIBC, check
from sampan.sys.mounts import MNT_DETACH, bind, umount2

_FLAGS: Final[Mapping[str, int]] = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}


def make(directory: Path, kinds: frozenset[str], hostname: str, sysctls: Mapping[str, str]) -> None:
    """Make namespaces of ``kinds`` in the calling thread, which ends after it, and hold each at ``directory/<kind>``.

    Raises:
        InvalidArgumentError: a sysctl that the kernel does not take.
        OSError: the kernel refuses a namespace, or a mount.
    """
    if not kinds:
        return
    flags = 0
    for kind in kinds:
        flags |= _FLAGS[kind]
    check(LIBC.unshare(ctypes.c_int(flags)), "namespaces of a pod")
    settle(kinds, hostname, sysctls)
    for kind in sorted(kinds):
        hold(Path("/proc/thread-self/ns") / kind, directory / kind)


def settle(kinds: frozenset[str], hostname: str, sysctls: Mapping[str, str]) -> None:
    """Set what belongs to the namespaces that the calling thread is in."""
    if "uts" in kinds and hostname:
        socket.sethostname(hostname)
    for name, value in sysctls.items():
        try:
            _sysctl_path(name).write_text(value)
        except OSError as error:
            raise InvalidArgumentError(f"sysctl {name}={value}: {error.strerror}") from None


def _sysctl_path(name: str) -> Path:
    """Return a sysctl's file: its parts are separated by dots, and where one begins with slashes, by these."""
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return Path("/proc/sys") / name
    return Path("/proc/sys") / "/".join(part.replace("/", ".") for part in name.split("."))


def hold(namespace: Path, file: Path) -> None:
    """Keep a namespace alive at ``file``."""
    file.touch(0o444)
    bind(str(namespace), str(file))


def let_go(directory: Path) -> None:
    """Let go of all that is held in ``directory``, and remove it; safe to repeat, also half done."""
    try:
        paths = list(directory.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        while True:  # one may lie on another, if it was made twice
            try:
                umount2(str(path), MNT_DETACH)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                break
        with suppress(FileNotFoundError):
            path.unlink()
    directory.rmdir()


def make_of_users(
    directory: Path, kinds: frozenset[str], users: UserNamespace, hostname: str, sysctls: Mapping[str, str]
) -> None:
    """Do what ``make`` does with a user namespace that owns the others, held at ``directory/user``.

    A user namespace takes a process of one thread to make, and another one to write its mappings from outside.

    Raises:
        InvalidArgumentError, OSError: as ``make``; also that util-linux' ``unshare`` is not there.
    """
    options = [f"--{kind}" for kind in sorted(kinds)]
    with process_within("unshare", "--user", *options) as pid:
        process = Path(f"/proc/{pid}")
        for name, mappings in (("uid_map", users.uids), ("gid_map", users.gids)):
            lines = "".join(f"{each.container_id} {each.host_id} {each.length}\n" for each in mappings)
            (process / name).write_text(lines)
        for kind in kinds:
            with open(process / "ns" / kind, "rb") as file:  # its descriptor is what counts
                check(LIBC.setns(ctypes.c_int(file.fileno()), ctypes.c_int(_FLAGS[kind])), kind)
        settle(kinds, hostname, sysctls)
        for kind in ("user", *sorted(kinds)):
            hold(process / "ns" / kind, directory / kind)
