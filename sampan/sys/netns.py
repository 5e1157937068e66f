"""Network namespaces: made, entered and let go of, without a process of their own.

A network namespace belongs to a *thread*: unshare(2) and setns(2) change the calling thread alone, and the others go on
where they are. So a thread is started for each job in a namespace and ends with it; no thread that returns to a pool
ever leaves its namespace. A thread costs 0.1 ms, where a helper process costs 3 ms and a fork of the daemon more.
"""

import asyncio
import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from sampan.cancellation import to_the_end
from sampan.sys.libc import LIBC, check
from sampan.sys.mounts import MNT_DETACH, bind, umount2

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000

LIBC.unshare.argtypes = (ctypes.c_int,)
LIBC.setns.argtypes = (ctypes.c_int, ctypes.c_int)


async def in_own_thread(job: Callable[[], T], name: str) -> T:
    """Run ``job`` in a new thread that ends with it, to the end even if the caller is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001  # handed to the caller, whatever it is
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    async def wait() -> T:
        return await done

    threading.Thread(target=run, name=name).start()
    return await to_the_end(wait())


def create(path: Path) -> None:
    """Move the calling thread to a new namespace, and keep that as a file: a bind mount at ``path``."""
    path.touch(0o444)
    try:
        check(LIBC.unshare(CLONE_NEWNET), "unshare network")
        # "thread-self" and not "self": the process's main thread is still in the host's namespace.
        bind("/proc/thread-self/ns/net", str(path))
    except OSError:
        path.unlink()
        raise


def enter(path: Path) -> None:
    """Move the calling thread into the namespace at ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.setns(fd, CLONE_NEWNET), str(path))
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Let go of the namespace at ``path``; it lives on as long as a process is in it. No error if there is none."""
    try:
        umount2(str(path), MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # a plain file, or none at all
            raise
    path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Tell whether ``path`` is a namespace, and not the plain file it was to be mounted on."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False
