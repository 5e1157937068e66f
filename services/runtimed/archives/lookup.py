"""What a path of a container leads to: found once, and a descriptor from then on."""

import errno
import os
import posixpath
import stat
from types import TracebackType
from typing import Final, Self

from runtimed.oci.rootfs import RootFs
from sampan.resource.container import PathStat
from sampan.sys.beneath import of_kernel_file_system

NODE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS: Final = 40  # the kernel's own limit, MAXSYMLINKS


def plain(path: str) -> str:
    """Return an absolute path without dots. Docker, too, takes ``..`` away before it looks for links."""
    return posixpath.normpath("/" + path).replace("//", "/", 1)


def is_content(path: str) -> bool:
    """Whether a path ends in ``.`` and so names what is in a directory, whose names in an archive begin with ``./``."""
    return posixpath.basename(path.rstrip("/")) == "."


class Found:
    """A file of any kind, held open by an O_PATH descriptor. Close it, or use it as a context manager."""

    def __init__(self, fd: int, status: PathStat) -> None:
        self.fd: Final = fd
        self.status: Final = status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


def look(tree: RootFs, path: str) -> Found:
    """Return what ``path`` leads to, its last component not followed unless a slash or dot says so.

    Raises:
        FileNotFoundError: nothing is there, or a file of the kernel's: of those file systems only the root is seen.
        NotADirectoryError: something on the way is no directory.
        OSError: ELOOP, links lead in a circle, or through a magic one.
    """
    where = plain(path)
    into = path.endswith(("/", "/."))
    fd = tree.find(where) if into else _open_itself(tree, where)
    try:
        status = os.fstat(fd)
        if into and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if not stat.S_ISDIR(status.st_mode) and of_kernel_file_system(fd):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        target = _leads_to(tree, where) if stat.S_ISLNK(status.st_mode) else ""
    except BaseException:
        os.close(fd)
        raise
    name = posixpath.basename(where) or "/"
    return Found(fd, PathStat(name, status.st_size, status.st_mode, status.st_mtime_ns, target))


def _open_itself(tree: RootFs, where: str) -> int:
    parent = tree.find(posixpath.dirname(where))
    try:
        return os.open(posixpath.basename(where) or ".", NODE, dir_fd=parent)
    finally:
        os.close(parent)


def _leads_to(tree: RootFs, link: str) -> str:
    """Return where a link leads, as far as that can be told: what is not there has a name, too."""
    where = link
    for _ in range(_MAX_LINKS):
        try:
            found = tree.find(where)
        except FileNotFoundError:
            pass
        except OSError:
            return where  # a circle
        else:
            try:
                return tree.name_of(found)
            finally:
                os.close(found)
        try:
            parent = tree.find(posixpath.dirname(where))
        except OSError:
            return where
        try:
            where = posixpath.join(tree.name_of(parent), posixpath.basename(where))
            where = plain(
                posixpath.join(posixpath.dirname(where), os.readlink(posixpath.basename(where), dir_fd=parent))
            )
        except OSError:
            return where  # not a link: what the last one names is missing
        finally:
            os.close(parent)
    return where
