"""What is mounted into a step, as mounts of our own below its bundle.

Each source is opened once, without following a link out of where it must lie, and what was opened is what is shown:
by ``open_tree`` and ``move_mount``, so that a name which is looked up again later is one of ours. Whoever shares a
cache with a step could put a link into the way of any other (CVE-2024-23651).
"""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.lifecycle.mounter import Mounter
from runtimed.oci.rootfs import RootFs
from runtimed.protocol import SnapshotMount
from runtimed.steps.paths import StepPaths
from runtimed.steps.snapshots import Mounted
from runtimed.steps.spec import Shown
from sampan.build.step import DirectorySource, FileSource, SnapshotSource, SocketSource, StepMount
from sampan.errors import InvalidArgumentError, NotFoundError, StartError
from sampan.resource.container import MountPoint
from sampan.resource.container_spec import MountType
from sampan.sys.beneath import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from sampan.sys.mounts import attach, clone_tree

_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_PAGE: Final = 4096

_OF_ONE_OVERLAY: Final = ("lowerdir", "upperdir", "workdir", "ro")


@dataclass(frozen=True, slots=True)
class Grants:
    """Directories of the host that the builder may show to its steps."""

    directories: tuple[Path, ...]  # below these for directories
    sockets: tuple[Path, ...]  # and below these for sockets


class Sources:
    """Makes the sources of one step. Everything blocks; what was mounted, also by a call that failed, goes by
    ``unmount_sources``."""

    def __init__(self, paths: StepPaths, mounter: Mounter, grants: Grants) -> None:
        self._paths = paths
        self._mounter = mounter
        self._grants = grants

    def make(self, mounts: Sequence[StepMount], snapshots: Mapping[str, Mounted]) -> tuple[Shown, ...]:
        """Return what the step is shown but for its tmpfs; ``snapshots`` says where each is mounted.

        Raises:
            InvalidArgumentError: a path of the host that is not the builder's.
            NotFoundError: nothing is at a path.
            StartError: something cannot be mounted.
        """
        self._paths.sources.mkdir(mode=0o700)
        self._make_secrets([mount.source for mount in mounts if isinstance(mount.source, FileSource)])
        shown = []
        for number, mount in enumerate(mounts):
            try:
                with self._opened(number, mount, snapshots) as found:
                    if found is not None:
                        shown.append(self._show(number, mount, found))
            except OSError as error:
                raise StartError(f"cannot mount at {mount.target} of a step: {error.strerror}") from error
        return tuple(shown)

    @contextlib.contextmanager
    def _opened(self, number: int, mount: StepMount, snapshots: Mapping[str, Mounted]) -> Iterator[int | None]:
        """Yield a descriptor of what is to be shown, None for a tmpfs, which the OCI runtime makes."""
        with contextlib.ExitStack() as stack:
            match mount.source:
                case SnapshotSource() as source:
                    found = self._snapshot(stack, number, source, snapshots[source.key])
                case DirectorySource() as source:
                    found = self._directory(stack, number, source)
                case FileSource() as source:
                    found = os.open(self._write(number, source), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                    stack.callback(os.close, found)
                case SocketSource() as source:
                    found = _beneath(stack, source.path, self._grants.sockets)
                    if not stat.S_ISSOCK(os.fstat(found).st_mode):
                        raise InvalidArgumentError(f"{source.path} is no socket")
                case _:
                    yield None
                    return
            yield found

    def _directory(self, stack: contextlib.ExitStack, number: int, source: DirectorySource) -> int:
        granted = _beneath(stack, source.directory, self._grants.directories)
        if not stat.S_ISDIR(os.fstat(granted).st_mode):
            raise InvalidArgumentError(f"{source.directory} is no directory")
        if not source.discard:
            return _inside(stack, Path(f"/proc/self/fd/{granted}"), source.path, source.directory)
        lower = self._paths.sources / f"{number}.lower"
        _put(granted, lower, directory=True)
        merged = self._overlay(number, lower, (f"lowerdir={_escaped(lower)}",))
        return _inside(stack, merged, source.path, source.directory)

    def _snapshot(self, stack: contextlib.ExitStack, number: int, source: SnapshotSource, mounted: Mounted) -> int:
        if not source.discard:
            return _inside(stack, mounted.path, source.path)
        return _inside(stack, self._overlay(number, mounted.path, _below(mounted)), source.path)

    def _overlay(self, number: int, lower: Path, below: Sequence[str]) -> Path:
        """Return where ``lower`` may be written to without being changed; ``below`` are its options for an overlay."""
        scratch = self._paths.scratch / str(number)
        upper, work, merged = scratch / "upper", scratch / "work", self._paths.sources / f"{number}.merged"
        for directory in (upper, work, merged):
            directory.mkdir(mode=0o700, parents=True)
        seen = lower.stat()
        upper.chmod(stat.S_IMODE(seen.st_mode))
        os.chown(upper, seen.st_uid, seen.st_gid)
        own = (f"upperdir={_escaped(upper)}", f"workdir={_escaped(work)}")
        try:
            self._mounter.mount(SnapshotMount("overlay", "overlay", (*below, *own)), merged)
        except InvalidArgumentError:  # more layers than options hold with our own
            options = (f"lowerdir={_escaped(lower)}", *own)
            self._mounter.mount(SnapshotMount("overlay", "overlay", options), merged)
        return merged

    def _make_secrets(self, files: Sequence[FileSource]) -> None:
        if not files:
            return
        self._paths.secrets.mkdir(mode=0o700)
        size_bytes = sum(-(-len(file.content) // _PAGE) * _PAGE for file in files) + 16 * _PAGE
        options = ("nosuid", "nodev", "noexec", "mode=700", f"size={size_bytes}")
        try:  # since Linux 6.4
            self._mounter.mount(SnapshotMount("tmpfs", "secrets", (*options, "noswap")), self._paths.secrets)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._mounter.mount(SnapshotMount("tmpfs", "secrets", options), self._paths.secrets)

    def _write(self, number: int, source: FileSource) -> Path:
        path = self._paths.secrets / str(number)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.content)
            os.fchown(descriptor, source.uid, source.gid)
            os.fchmod(descriptor, source.mode)
        return path

    def _show(self, number: int, mount: StepMount, found: int) -> Shown:
        is_directory = stat.S_ISDIR(os.fstat(found).st_mode)
        path = self._paths.sources / str(number)
        _put(found, path, directory=is_directory)
        point = MountPoint(MountType.BIND, str(path), mount.target, read_write=not mount.read_only)
        return Shown(point, is_directory)


def _below(mounted: Mounted) -> tuple[str, ...]:
    """Return a snapshot as what is below another overlay: its own layers, as overlays do not stack high."""
    match mounted.mounts:
        case (SnapshotMount(fstype="overlay") as mount,):
            given = dict(option.partition("=")[::2] for option in mount.options)
            layers = [given[name] for name in ("upperdir", "lowerdir") if name in given]
            rest = [option for option in mount.options if option.partition("=")[0] not in _OF_ONE_OVERLAY]
            if all(layer.startswith("/") for layer in layers):
                return (*rest, f"lowerdir={':'.join(layers)}")
    return (f"lowerdir={_escaped(mounted.path)}",)


def _escaped(path: Path) -> str:
    """Return a path as overlayfs reads it, to which commas and colons mean something."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _put(found: int, path: Path, *, directory: bool) -> None:
    """Show at ``path``, which is made, what ``found`` has open."""
    if directory:
        path.mkdir(mode=0o700)
    else:
        path.touch(mode=0o600)
    target = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        tree = clone_tree(found)
        try:
            attach(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def _inside(stack: contextlib.ExitStack, root: Path, path: str, called: str = "") -> int:
    """Open what ``path`` is in ``root``, where all links stay."""
    with RootFs(root) as inside:
        try:
            found = inside.find(path or "/")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f'"{path}"{f" in {called}" if called else ""}: not found') from error
    stack.callback(os.close, found)
    return found


def _beneath(stack: contextlib.ExitStack, path: str, granted: Sequence[Path]) -> int:
    """Open a path of the host that lies below one that is granted, with no link on the way."""
    plain = posixpath.normpath(path)
    for directory in granted:
        if plain == path and plain.startswith(f"{directory}/"):
            root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                found = openat2(root, os.path.relpath(plain, directory), os.O_PATH | os.O_NOFOLLOW, _BENEATH)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EXDEV):
                    break
                raise NotFoundError(f'"{path}": not found') from error
            finally:
                os.close(root)
            stack.callback(os.close, found)
            return found
    raise InvalidArgumentError(f"{path} is not below a directory of the builder's: steps are shown no others")
