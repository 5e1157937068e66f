"""mount(2) and umount(2) as far as a container's root needs them, behind a seam that tests replace."""

import errno
import os
from pathlib import Path
from typing import Final, Protocol

from runtimed.protocol import SnapshotMount
from sampan.errors import ConflictError
from sampan.sys.mounts import MNT_DETACH, UMOUNT_NOFOLLOW, mount_options, umount2

_TEARDOWN_ERRORS: Final = (errno.EINVAL, errno.ENOENT)  # not mounted, not there


class Mounter(Protocol):
    """mount(2) as far as a container's root needs it."""

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount``. Raises OSError."""

    def unmount(self, target: Path) -> None:
        """Take away all that is mounted at ``target``, busy or not; no error if there is nothing."""


class LinuxMounter:
    """The real thing."""

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        """Carry out ``mount``. Raises OSError."""
        mount_options(mount.source, str(target), mount.fstype, mount.options)

    def unmount(self, target: Path) -> None:
        """Take away all that is mounted at ``target``, busy or not; no error if there is nothing."""
        while True:
            try:
                umount2(str(target), MNT_DETACH | UMOUNT_NOFOLLOW)
            except OSError as error:
                if error.errno in _TEARDOWN_ERRORS:
                    return
                raise ConflictError(f"cannot unmount {target}: {os.strerror(error.errno or 0)}") from error
