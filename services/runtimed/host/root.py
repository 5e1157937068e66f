"""Whether the engine's root directory is that of its mount namespace.

Whoever joins a mount namespace has that namespace's root from then on. A container's is its own because the OCI runtime
has made it so with pivot_root(2), which puts the container's root in the place of the caller's. Below chroot(2) the
caller's is not the namespace's: containers are confined, but each exec, health check and ``cp`` joins their namespace,
and would find itself in the directory outside, the machine's.

Reference: setns(2), pivot_root(2), mount_namespaces(7).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.log import log
from sampan.sys.libc import LIBC, check
from sampan.sys.netns import in_own_thread

_CLONE_FS: Final = 0x200
_CLONE_NEWNS: Final = 0x20000

Root = tuple[int, int]  # device and inode


def root_of_thread() -> Root:
    """Return the calling thread's root directory."""
    status = Path("/").stat()
    return status.st_dev, status.st_ino


def root_of_namespace() -> Root:
    """Move the calling thread, which should end soon, to the root of its mount namespace, and return that.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN and CAP_SYS_CHROOT.
    """
    check(LIBC.unshare(_CLONE_FS), "root directory of a thread's own")
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.setns(namespace, _CLONE_NEWNS), "own mount namespace")
    finally:
        os.close(namespace)
    return root_of_thread()


async def check_root(outer: Callable[[], Root] = root_of_namespace) -> None:
    """Refuse to run below chroot(2).

    Raises:
        InvalidArgumentError: the root directory is not the mount namespace's.
    """
    try:
        found = await in_own_thread(outer, "root")
    except OSError as error:  # who may not do this may not mount either, which is said where it is tried
        log.warning("cannot tell whether this is a chroot", error=str(error))
        return
    if found != root_of_thread():
        raise InvalidArgumentError(
            "the engine runs below chroot(2), where commands in containers would see the directory outside: "
            "use pivot_root(2), as systemd-nspawn and containers do"
        )
