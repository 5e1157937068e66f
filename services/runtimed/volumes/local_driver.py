"""The ``local`` volume driver: one directory per volume, and what its options mount there.

<root>/<name>/_data      the content, and the mount point where there are options
<root>/.new-<name>       being made: garbage after a crash
<root>/.gone-<name>      being removed: the removal is finished at the next start
"""

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from runtimed.oci.mountinfo import read_mounts
from sampan.docker.options.mounts import VOLUME_NAME
from sampan.errors import InvalidArgumentError, StartError
from sampan.sys.closed import make_closed
from sampan.sys.measuring import measure
from sampan.sys.mounts import MNT_DETACH, mount_options, umount2
from sampan.sys.trees import Stop, never, remove_tree

_OPTIONS: Final = frozenset(("type", "o", "device", "size"))
_GONE: Final = ".gone-"
_NEW: Final = ".new-"
_DATA: Final = "_data"

# File systems whose server is named in an option that the kernel wants as a number.
_REMOTE: Final = ("nfs", "nfs4", "cifs")


def check_options(options: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for driver options that make no mount."""
    for option in options:
        if option not in _OPTIONS:
            raise InvalidArgumentError(f'invalid option: "{option}"')
    if "size" in options:
        raise InvalidArgumentError("quota size requested but no quota support")
    for option, needed in (("device", "type"), ("type", "device"), ("o", "device")):
        if option in options and not options.get(needed):
            raise InvalidArgumentError(f'missing required option: "{needed}"')


class LocalDriver:
    """Volumes on disk. Every call blocks, and is safe to repeat."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        """Make the root directory."""
        make_closed(self._root)
        for volume in self._root.iterdir():  # an earlier version has left them open
            if volume.is_dir() and not volume.is_symlink():
                make_closed(volume)

    def mountpoint(self, name: str) -> Path:
        """Return where the content of ``name`` is."""
        return self._root / name / _DATA

    def make(self, name: str) -> None:
        """Make the volume's directory; what is there stays."""
        final = self._root / name
        if (final / _DATA).is_dir():
            return
        fresh = self._root / f"{_NEW}{name}"
        remove_tree(fresh)
        fresh.mkdir(mode=0o700)
        (fresh / _DATA).mkdir(mode=0o755)
        (fresh / _DATA).chmod(0o755)
        if final.exists():
            remove_tree(final)
        fresh.rename(final)
        self._sync()

    def hide(self, name: str) -> None:
        """First half of a removal: from now on it will be finished, if need be at the next start."""
        try:
            (self._root / name).rename(self._root / f"{_GONE}{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.discard(name)  # left over from an earlier volume of that name
            (self._root / name).rename(self._root / f"{_GONE}{name}")
        self._sync()

    def show(self, name: str) -> None:
        """Take ``hide`` back."""
        (self._root / f"{_GONE}{name}").rename(self._root / name)

    def discard(self, name: str, stop: Stop = never) -> None:
        """Second half of a removal. Raises as ``remove_tree``; what is left then is a leftover of the next start."""
        remove_tree(self._root / f"{_GONE}{name}", stop)

    def leftovers(self) -> Iterator[str]:
        """Remove what a crash left half-made; yield the names of volumes whose removal has to be finished."""
        for entry in sorted(self._root.iterdir()):
            if entry.name.startswith(_NEW):
                remove_tree(entry)
            elif entry.name.startswith(_GONE):
                yield entry.name.removeprefix(_GONE)

    def found(self) -> Iterator[str]:
        """Yield the names of all volumes on disk."""
        for entry in sorted(self._root.iterdir()):
            if VOLUME_NAME.fullmatch(entry.name) and (entry / _DATA).is_dir():
                yield entry.name

    def mount(self, name: str, options: Mapping[str, str]) -> bool:
        """Mount what ``options`` say, unless it is; return whether something was mounted.

        Raises:
            StartError: the mount failed; in Docker's words.
        """
        target = self.mountpoint(name)
        if not options.get("device") or _is_mounted(target):
            return False
        device, fstype = options["device"], options.get("type", "")
        chosen = [option for option in options.get("o", "").split(",") if option]
        try:
            if fstype in _REMOTE:
                chosen = [_numeric(option) for option in chosen]
            mount_options(device, str(target), "" if fstype == "none" else fstype, chosen)
        except OSError as error:
            data = ",".join(chosen)
            reason = (error.strerror or str(error)).lower()
            raise StartError(
                f"failed to mount local volume: mount {device}:{target}, data: {data}: {reason}"
            ) from error
        return True

    def unmount(self, name: str) -> bool:
        """Unmount it if it is mounted; return whether it was."""
        target = self.mountpoint(name)
        if not _is_mounted(target):
            return False
        umount2(str(target), MNT_DETACH)
        return True

    def size_bytes(self, name: str, stop: Stop = never) -> int:
        """Return what the content takes on disk; each file once. 0 if it is gone. Raises as ``measure``."""
        try:
            return measure(self.mountpoint(name), stop).size_bytes
        except FileNotFoundError:
            return 0

    def _sync(self) -> None:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_mounted(target: Path) -> bool:
    # Path.is_mount() does not see a bind mount from the same file system.
    return any(mount.target == str(target) for mount in read_mounts())


def _numeric(option: str) -> str:
    name, _, host = option.partition("=")
    if name != "addr":
        return option
    addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return f"addr={addresses[0][4][0]}"
