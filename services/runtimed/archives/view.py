"""A container's files, mounted for one process alone: its root, its volumes, and nothing else that is mounted in it.

Also what that process is told.

Docker's engine copies from the same: a container's /proc, /sys and /dev are empty directories in it, and what a
container has mounted by itself is not there. Unlike Docker's, a running container's tmpfs mounts are.

Mounts of a container that runs are copied from its mount namespace and not made again from their sources: a path of the
host may lead elsewhere by now, where one container writes to what another has mounted.

Reference: mount_namespaces(7), setns(2), open_tree(2), move_mount(2); the latter two need Linux 5.2.
"""

import base64
import ctypes
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from runtimed.oci.rootfs import RootFs, furnish
from sampan.sys import mounts
from sampan.sys.libc import LIBC, check


@dataclass(frozen=True, slots=True)
class Bind:
    """A mount of the container's, to be made again."""

    source: str  # host path; empty: as the running container has it at ``target``
    target: str
    read_only: bool
    subpath: str = ""  # what of it
    mounts: tuple[
        tuple[str, str, tuple[str, ...]], ...
    ] = ()  # instead of ``source``: of an image; type, source, options


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """What to do, and where."""

    action: str  # stat, read or write
    path: str
    root: str  # directory on which the worker, and it alone, has the container's files
    live_root: str = ""  # where the root of a container that runs is mounted
    pid: int = 0  # a process in a container that runs
    root_mounts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # of one that does not: type, source, options
    read_only: bool = False  # the root alone
    binds: tuple[Bind, ...] = ()
    working_dir: str = (
        ""  # of one that was never started: to be made, with what every container has, as Docker's create
    )
    keep_kinds: bool = False
    users: str = ""  # user namespace of a container that runs, by whose IDs its files are shown
    handed: bool = False  # what is read or written travels in HTTP's chunks on a client's own socket
    begun: bytes = b""  # of such an archive to be written: what was read of its chunks already

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self) | {"begun": base64.b64encode(self.begun).decode()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo ``to_json``."""
        fields = json.loads(text)
        binds = tuple(Bind(**bind | {"mounts": _mounts(bind["mounts"])}) for bind in fields["binds"])
        begun = base64.b64decode(fields["begun"])
        return cls(**fields | {"root_mounts": _mounts(fields["root_mounts"]), "binds": binds, "begun": begun})


def _mounts(written: Iterable[tuple[str, str, Iterable[str]]]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple((kind, source, tuple(options)) for kind, source, options in written)


_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000


def show(job: ArchiveJob) -> RootFs:
    """Mount what ``job`` names in a new mount namespace, this process's own from here on, and return its root.

    The process must have one thread. Mounts that a container's own links or files leave no place for are left out.

    Raises:
        OSError: the root cannot be mounted.
    """
    copies = _copies(job) if job.pid else {}
    try:
        check(LIBC.unshare(ctypes.c_int(_CLONE_NEWNS)), "mount namespace")
        # A slave, so that what the host unmounts meanwhile does not stay busy for our sake.
        mounts.mount("", "/", flags=mounts.MS_REC | mounts.MS_SLAVE)
        if job.live_root:
            mounts.bind(job.live_root, job.root)
        for kind, source, options in job.root_mounts:
            mounts.unmark_volatile(options)  # a start of it may have been killed half way
            mounts.mount_options(source, job.root, kind, options)
        tree = RootFs(Path(job.root))
        if job.working_dir:
            furnish(tree)
            with suppress(OSError):  # a start will say what is wrong with it
                tree.make_directory(job.working_dir)
        for bind in sorted(job.binds, key=lambda each: each.target.count("/")):
            if bind.mounts:
                _show_image(tree, bind)
            elif bind.source:
                _bind(tree, bind)
            elif bind.target in copies:
                _attach(tree, bind.target, copies[bind.target])
        if job.read_only:
            mounts.mount("", job.root, flags=mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY)
        if job.users:
            _become_root_of(job.users)
    finally:
        for copy in copies.values():
            os.close(copy)
    return tree


def _become_root_of(users: str) -> None:
    """Be root of a user namespace, and of nothing else: owners are told and set by its IDs from here on."""
    there = os.open(users, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.setns(ctypes.c_int(there), ctypes.c_int(_CLONE_NEWUSER)), users)
    finally:
        os.close(there)
    os.setgroups([])
    os.setgid(0)
    os.setuid(0)


def _copies(job: ArchiveJob) -> dict[str, int]:
    """Return, by target, copies of the mounts that a running container has; none if it ended just now."""
    copies: dict[str, int] = {}
    status = Path(job.live_root).stat()
    with _mount_namespace_of(job.pid) as there:
        root = Path("/").stat() if there else None
        # Otherwise the process has ended, and its number is another one's.
        if root is None or (root.st_dev, root.st_ino) != (status.st_dev, status.st_ino):
            return {}
        with RootFs(Path("/")) as tree:
            for bind in job.binds:
                if not bind.source:
                    _copy(tree, bind.target, copies)
    return copies


@contextmanager
def _mount_namespace_of(pid: int) -> Iterator[bool]:
    """Be in the mount namespace of ``pid``, its root the root directory; give False if there is no such process."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            yield False
            return
        try:
            check(LIBC.setns(ctypes.c_int(there), ctypes.c_int(_CLONE_NEWNS)), f"mount namespace of {pid}")
        finally:
            os.close(there)
        try:
            yield True
        finally:
            check(LIBC.setns(ctypes.c_int(home), ctypes.c_int(_CLONE_NEWNS)), "own mount namespace")
    finally:
        os.close(home)


def _copy(tree: RootFs, target: str, copies: dict[str, int]) -> None:
    try:
        place = tree.find(target)
    except OSError:
        return  # the container has moved it away
    try:
        copies[target] = mounts.clone_tree(place)
    except OSError:
        return
    finally:
        os.close(place)


def _attach(tree: RootFs, target: str, copy: int) -> None:
    try:
        place = tree.find(target)
    except OSError:
        return
    try:
        mounts.attach(copy, place)
    except OSError:  # by now a file is where a directory was, or the other way round
        return
    finally:
        os.close(place)


def _bind(tree: RootFs, bind: Bind) -> None:
    """Mount a volume where the container has it; a start would make the place, too."""
    with ExitStack() as stack:
        try:
            source = bind.source
            if bind.subpath:
                with RootFs(Path(source)) as inside:
                    part = inside.find(bind.subpath)
                stack.callback(os.close, part)
                source = f"/proc/self/fd/{part}"
            if Path(source).is_dir():
                tree.make_directory(bind.target)
            elif Path(source).exists():
                tree.make_file(bind.target)
            target = tree.find(bind.target)
        except OSError:
            return
        stack.callback(os.close, target)
        with suppress(FileNotFoundError, NotADirectoryError):
            mounts.bind(source, f"/proc/self/fd/{target}", recursive=True)
            if bind.read_only:
                _close(tree, bind.target)


def _close(tree: RootFs, target: str) -> None:
    """Make what is mounted at ``target`` read-only: a descriptor of the place from before leads below the mount."""
    mounted = tree.find(target)
    try:
        flags = mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY
        mounts.mount("", f"/proc/self/fd/{mounted}", flags=flags)
    finally:
        os.close(mounted)


def _show_image(tree: RootFs, bind: Bind) -> None:
    """Mount an image where the container has it, or what is wanted of it."""
    with ExitStack() as stack:
        try:
            target = tree.open_made(bind.target)
        except OSError:
            return
        stack.callback(os.close, target)
        for kind, source, options in bind.mounts:
            rest = [option for option in options if option != "ro"]
            mounts.mount_options(source, f"/proc/self/fd/{target}", kind, rest)
        _close(tree, bind.target)
        image = tree.find(bind.target)  # what is mounted there now
        stack.callback(os.close, image)
        if bind.subpath:
            copy = -1
            with RootFs(Path(f"/proc/self/fd/{image}")) as inside, suppress(OSError):
                part = inside.find(bind.subpath)
                stack.callback(os.close, part)
                copy = mounts.clone_tree(part)
                stack.callback(os.close, copy)
            mounts.umount2(f"/proc/self/fd/{image}", mounts.MNT_DETACH)
            if copy >= 0:
                _attach(tree, bind.target, copy)
