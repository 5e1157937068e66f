"""overlayfs's marks in a layer, for what it removes, and what stands for them where they cannot be made.

overlayfs refuses its own marks as files in an overlay, which is what a data root has below it when the engine runs in a
container. No overlay can be made there either, so nobody but this service reads such layers.

Reference: Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories" and "Nesting".
"""

import errno
import os
import stat
from typing import Final

OPAQUE_XATTR: Final = "trusted.overlay.opaque"
WHITEOUT_DEVICE: Final = (0, 0)  # major and minor of a character device that stands for something removed

# No driver has major number 0, so no image has a use for this device either.
_OTHER_DEVICE: Final = (0, 1)
_OTHER_XATTR: Final = "trusted.sampan.opaque"
OPAQUE_MARKS: Final = frozenset({OPAQUE_XATTR, _OTHER_XATTR})
_WHITEOUTS: Final = frozenset(os.makedev(*device) for device in (WHITEOUT_DEVICE, _OTHER_DEVICE))
_OURS: Final = ("trusted.overlay.", "trusted.sampan.")


def is_mark(xattr: str) -> bool:
    """Say whether an extended attribute of that name is a mark, which no layer may bring and nobody be shown."""
    return xattr.startswith(_OURS)


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether a file is the mark for something removed."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev in _WHITEOUTS


def make_whiteout(name: bytes, directory: int) -> None:
    """Make the mark for something removed. Raises FileExistsError if something of that name is there."""
    try:
        os.mknod(name, stat.S_IFCHR, os.makedev(*WHITEOUT_DEVICE), dir_fd=directory)
    except PermissionError:
        os.mknod(name, stat.S_IFCHR, os.makedev(*_OTHER_DEVICE), dir_fd=directory)


def make_opaque(directory: int) -> None:
    """Mark a directory as hiding what is below it."""
    try:
        os.setxattr(directory, OPAQUE_XATTR, b"y")
    except OSError as error:  # before Linux 6.7
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        os.setxattr(directory, _OTHER_XATTR, b"y")


def is_opaque(directory: int) -> bool:
    """Say whether a directory hides what is below it."""
    return any(_is_set(directory, name) for name in OPAQUE_MARKS)


def _is_set(directory: int, name: str) -> bool:
    try:
        return os.getxattr(directory, name) == b"y"
    except OSError:
        return False
