"""The process that reads or writes files of a container: ``python -m runtimed.archives.archiver <job as JSON>``.

It enters the container's file system with chroot(2), which is why it is a process: every link and every ``..`` stays
inside, also those that the container changes meanwhile. What a job gives goes to stdout; the last line of stderr is its
answer, JSON: empty, or an error. Without one, it died.
"""

import bz2  # noqa: F401 - tarfile imports what it unpacks with when it is needed, and then it is too late
import ctypes
import gzip  # noqa: F401
import json
import lzma  # noqa: F401
import os
import posixpath
import stat
import sys
import tarfile
import zlib  # noqa: F401
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

from runtimed.oci.rootfs import RootFs
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, PermissionDeniedError, SampanError
from sampan.sys import mounts
from sampan.sys.libc import LIBC, check
from sampan.sys.processes import die_with_parent
from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter

_CLONE_NEWNS: Final = 0x00020000
_PIECE_BYTES: Final = 1 << 20
_XATTR: Final = "SCHILY.xattr."
_MAX_DEPTH: Final = 400

_TYPES: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}


@dataclass(frozen=True, slots=True)
class Bind:
    """A mount of the container's, to be made again."""

    source: str  # host path
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """What to do, and where."""

    action: str  # stat, read or write
    path: str
    pid: int = 0  # a process in the container; 0: it does not run
    root: str = ""  # directory to mount its root file system on, in this process alone
    root_mounts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # type, source, options
    binds: tuple[Bind, ...] = ()
    keep_kinds: bool = False

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo ``to_json``."""
        fields = json.loads(text)
        root_mounts = tuple((kind, source, tuple(options)) for kind, source, options in fields["root_mounts"])
        return cls(**fields | {"root_mounts": root_mounts, "binds": tuple(Bind(**bind) for bind in fields["binds"])})


@dataclass(frozen=True, slots=True)
class PathStat:
    """What a path is."""

    name: str
    size_bytes: int
    mode: int  # st_mode
    mtime_ns: int
    link_target: str = ""  # absolute, within the container


@dataclass(slots=True)
class _Reader:
    """Writes a tree as a tar."""

    writer: TarWriter
    linked: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def add(self, path: Path, name: bytes, depth: int = 0) -> None:
        status = path.lstat()
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # a socket, which no archive can hold
        first = self.linked.setdefault((status.st_dev, status.st_ino), name)
        if status.st_nlink > 1 and kind is not EntryType.DIRECTORY and first != name:
            self.writer.add(_entry(name, EntryType.HARD_LINK, status, first, path))
            return
        link = os.fsencode(path.readlink()) if kind is EntryType.SYMLINK else b""
        if kind is EntryType.FILE:
            self._add_file(path, name)
            return
        self.writer.add(_entry(name, kind, status, link, path))
        if kind is EntryType.DIRECTORY:
            if depth == _MAX_DEPTH:
                raise InvalidArgumentError(f"directories are nested more than {_MAX_DEPTH} deep")
            for child in sorted(path.iterdir()):
                try:
                    self.add(child, name + b"/" + os.fsencode(child.name), depth + 1)
                except FileNotFoundError:  # removed meanwhile
                    continue

    def _add_file(self, path: Path, name: bytes) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            self.writer.add(_entry(name, EntryType.FILE, status, b"", path))
            left = status.st_size
            while left:
                # Cut short while being read: the header promised zeros.
                piece = os.read(fd, min(left, _PIECE_BYTES)) or bytes(min(left, _PIECE_BYTES))
                self.writer.data(piece)
                left -= len(piece)
        finally:
            os.close(fd)


def _entry(name: bytes, kind: EntryType, status: os.stat_result, link: bytes, path: Path) -> Entry:
    xattrs: dict[str, bytes] = {}
    if kind in (EntryType.FILE, EntryType.DIRECTORY):
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            names = []
        xattrs = {
            each: os.getxattr(path, each, follow_symlinks=False)
            for each in names
            if each.startswith(("security.capability", "user."))
        }
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if "DEVICE" in kind.name else (0, 0)
    return Entry(
        name=name,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind is EntryType.FILE else 0,
        mtime_ns=status.st_mtime_ns,
        link=link,
        device=device,
        xattrs=xattrs,
    )


def enter(job: ArchiveJob) -> None:
    """Make the container's file system this process's own."""
    if job.pid:
        os.chroot(f"/proc/{job.pid}/root")
        os.chdir("/")
        return
    check(LIBC.unshare(ctypes.c_int(_CLONE_NEWNS)), "mount namespace")
    mounts.mount("", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)
    for kind, source, options in job.root_mounts:
        mounts.mount_options(source, job.root, kind, options)
    for bind in sorted(job.binds, key=lambda each: each.target.count("/")):
        _bind(job.root, bind)
    os.chroot(job.root)
    os.chdir("/")


def _bind(root: str, bind: Bind) -> None:
    """Mount a volume where the container has it; a start would make the place, too."""
    with RootFs(Path(root)) as tree:
        try:
            if Path(bind.source).is_dir():
                tree.make_directory(bind.target)
            target = tree.find(bind.target)
        except OSError:
            return
        try:
            flags = mounts.MS_RDONLY if bind.read_only else 0
            mounts.bind(bind.source, f"/proc/self/fd/{target}", flags=flags, recursive=True)
        except FileNotFoundError:
            return
        finally:
            os.close(target)


def _plain(path: str) -> Path:
    """Return an absolute path without dots. Docker, too, takes ``..`` away before it looks for links."""
    return Path(posixpath.normpath("/" + path).replace("//", "/", 1))


def look(path: str) -> tuple[Path, PathStat]:
    """Return where a path leads, its last component not followed unless a slash or dot says so, and what is there."""
    plain = _plain(path)
    into = path.endswith(("/", "/."))
    where = plain.resolve() if into else plain.parent.resolve() / plain.name
    status = where.lstat()
    if into and not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(20, os.strerror(20), path)
    link = str(where.resolve()) if stat.S_ISLNK(status.st_mode) else ""
    return where, PathStat(plain.name or "/", status.st_size, status.st_mode, status.st_mtime_ns, link)


def read(job: ArchiveJob, out: IO[bytes]) -> None:
    """Write the path's stat as a line of JSON, and its tar."""
    where, found = look(job.path)
    out.write(json.dumps(asdict(found)).encode() + b"\n")
    base = b"." if job.path.endswith("/.") else os.fsencode(found.name)
    writer = TarWriter(out.write)
    _Reader(writer).add(where, b"" if base == b"/" else base)
    writer.close()


def write(job: ArchiveJob, source: IO[bytes]) -> None:
    """Unpack the archive on ``source`` into the path."""
    where = _plain(job.path).resolve()
    if not stat.S_ISDIR(where.stat().st_mode):
        raise InvalidArgumentError("extraction point is not a directory")
    try:
        with tarfile.open(fileobj=source, mode="r|*") as archive:
            # Nothing is outside a root. An attribute, not an argument: older Pythons have no filters.
            archive.extraction_filter = lambda member, _: member
            for member in archive:
                _extract(archive, member, where, keep_kinds=job.keep_kinds)
    except tarfile.TarError as error:
        raise InvalidArgumentError(f"not a tar archive, or a damaged one: {error}") from error


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, where: Path, *, keep_kinds: bool) -> None:
    member.name = str(_plain(member.name).relative_to("/"))
    target = where / member.name
    if member.islnk():
        member.linkname = str(_plain(member.linkname).relative_to("/"))
    there = target.lstat() if os.path.lexists(target) else None
    if there is not None and stat.S_ISDIR(there.st_mode) != member.isdir():
        if keep_kinds:
            first, second = ("directory", "non-directory") if not member.isdir() else ("non-directory", "directory")
            raise ConflictError(f'cannot overwrite {first} "{target}" with {second} "{where}"')
        if stat.S_ISDIR(there.st_mode):
            target.rmdir()
        else:
            target.unlink()
    elif there is not None and not member.isdir():
        target.unlink()
    if target == where and member.isdir():
        return  # "./": the directory itself keeps what it has
    archive.extract(member, where, numeric_owner=True)
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR) and not member.issym():
            os.setxattr(target, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))


def run(job: ArchiveJob) -> dict[str, str]:
    """Do the job; return an error's kind and text, or nothing."""
    actions: dict[str, Callable[[], Any]] = {
        "stat": lambda: sys.stdout.write(json.dumps(asdict(look(job.path)[1])) + "\n"),
        "read": lambda: _read_buffered(job),
        "write": lambda: write(job, sys.stdin.buffer),
    }
    try:
        enter(job)
        actions[job.action]()
        sys.stdout.flush()
    except SampanError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # the last one is pathlib's for links in a circle
        return {"error": NotFoundError.__name__, "message": ""}
    except PermissionError as error:
        return {"error": PermissionDeniedError.__name__, "message": f"{error.strerror}: {error.filename or job.path}"}
    except OSError as error:
        if error.errno == 30:  # EROFS
            return {"error": PermissionDeniedError.__name__, "message": "container rootfs is marked read-only"}
        return {"error": ConflictError.__name__, "message": f"{error.strerror}: {error.filename or job.path}"}
    return {}


def _read_buffered(job: ArchiveJob) -> None:
    with open(os.dup(1), "wb", buffering=_PIECE_BYTES) as out:
        read(job, out)


def main(argv: list[str]) -> int:
    """Do the job; return 0 if an answer was written."""
    die_with_parent()
    os.umask(0)
    answer = run(ArchiveJob.from_json(argv[1]))
    sys.stderr.write("\n" + json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
