"""mount(2) and umount(2) as far as a container's root needs them, behind a seam that tests replace."""

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from runtimed.lifecycle.idmapped import MappedMounts, Owners
from runtimed.oci.rootfs import RootFs
from runtimed.protocol import SnapshotMount
from sampan.errors import ConflictError
from sampan.sys.beneath import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from sampan.sys.closed import RUN_ROOT as PASSED_THROUGH
from sampan.sys.closed import make_closed
from sampan.sys.idmaps import hold
from sampan.sys.mounts import (
    MNT_DETACH,
    UMOUNT_NOFOLLOW,
    attach,
    bind,
    clone_tree,
    mount_options,
    mount_volatile,
    umount2,
)

GROUP_PASSES: Final = 0o710

_TEARDOWN_ERRORS: Final = (errno.EINVAL, errno.ENOENT)  # not mounted, not there


class Mounter(Protocol):
    """mount(2) as far as a container's root needs it."""

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount``. Raises OSError."""

    def attach(self, base: Path, subpath: str, target: Path) -> None:
        """Mount at ``target``, which is made, what ``subpath`` names in ``base``, with all that is mounted below.

        Links are followed as if ``base`` were the root, and whoever moves things meanwhile leads nowhere else.

        Raises:
            OSError: there is no such thing in ``base``.
        """

    def check_part(self, base: Path, subpath: str) -> None:
        """See that ``subpath`` names something in ``base``.

        Raises:
            OSError: ENOENT, ENOTDIR: there is no such thing. EXDEV: a link leads out of ``base``. ELOOP.
        """

    def unmount(self, target: Path) -> None:
        """Take away all that is mounted at ``target``, busy or not; no error if there is nothing."""


class MappedMounter(Mounter, Protocol):
    """What containers take besides: those that go with their processes, and those with user namespaces."""

    def mount_passing(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount`` of what nobody needs after a power cut: nothing waits for its disk. Raises OSError."""

    def mount_mapped(self, mount: SnapshotMount, target: Path, owners: Owners) -> None:
        """Carry out ``mount`` with its files shown as ``owners``'. Raises OSError, also where that cannot be."""

    def attach_mapped(self, source: Path, target: Path, owners: Owners) -> None:
        """Mount at ``target``, which is made, what is at ``source``, shown as ``owners``'. Raises OSError."""

    def hold_users(self, owners: Owners, target: Path) -> None:
        """Mount a new user namespace with these IDs at ``target``, a file that is made. Raises OSError."""

    def show(self, source: Path, target: Path, owners: Owners) -> None:
        """Mount a directory once more, at ``target``, where root of ``owners`` gets to it, and nobody else."""


class LinuxMounter:
    """The real thing."""

    def __init__(self, mapped: MappedMounts) -> None:
        self._mapped = mapped

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount``. Raises OSError."""
        mount_options(mount.source, str(target), mount.fstype, mount.options)

    def mount_passing(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount`` so that nothing waits for its disk, not even to be unmounted. Raises OSError."""
        mount_volatile(mount.source, str(target), mount.fstype, mount.options)

    def attach(self, base: Path, subpath: str, target: Path) -> None:
        """Mount at ``target``, which is made, what ``subpath`` names in ``base``. Raises OSError."""
        with RootFs(base) as inside:
            found = inside.find(subpath)
        try:
            if stat.S_ISDIR(os.fstat(found).st_mode):
                target.mkdir(mode=0o700, exist_ok=True)
            else:
                target.touch(mode=0o600)
            tree = clone_tree(found)
        finally:
            os.close(found)
        try:
            place = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                attach(tree, place)
            finally:
                os.close(place)
        finally:
            os.close(tree)

    def check_part(self, base: Path, subpath: str) -> None:
        """See that ``subpath`` names something in ``base``. Raises OSError."""
        directory = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(openat2(directory, subpath, os.O_PATH, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS))
        finally:
            os.close(directory)

    def mount_mapped(self, mount: SnapshotMount, target: Path, owners: Owners) -> None:
        """Carry out ``mount`` with its files shown as ``owners``'. Raises OSError."""
        self._mapped.mount(mount, target, owners)

    def attach_mapped(self, source: Path, target: Path, owners: Owners) -> None:
        """Mount at ``target``, which is made, what is at ``source``, shown as ``owners``'. Raises OSError."""
        self._mapped.attach(source, target, owners)

    def hold_users(self, owners: Owners, target: Path) -> None:
        """Mount a new user namespace with these IDs at ``target``, a file that is made. Raises OSError."""
        users = self._mapped.make_users(owners)
        try:
            hold(users, target)
        finally:
            os.close(users)

    def show(self, source: Path, target: Path, owners: Owners) -> None:
        """Mount a directory once more, at ``target``, where root of ``owners`` gets to it, and nobody else."""
        make_closed(target.parents[1], PASSED_THROUGH)
        make_closed(target.parent)
        os.chown(target.parent, 0, owners.root[1])
        target.parent.chmod(GROUP_PASSES)
        target.mkdir(mode=0o700, exist_ok=True)
        bind(str(source), str(target), recursive=True)

    def unmount(self, target: Path) -> None:
        """Take away all that is mounted at ``target``, busy or not; no error if there is nothing."""
        while True:
            try:
                umount2(str(target), MNT_DETACH | UMOUNT_NOFOLLOW)
            except OSError as error:
                if error.errno in _TEARDOWN_ERRORS:
                    return
                raise ConflictError(f"cannot unmount {target}: {os.strerror(error.errno or 0)}") from error
