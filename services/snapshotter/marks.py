"""overlayfs's marks in a layer, for what it removes.

Reference: Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

import os
import stat
from typing import Final

OPAQUE_XATTR: Final = "trusted.overlay.opaque"
WHITEOUT_DEVICE: Final = (0, 0)  # major and minor of a character device that stands for something removed


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether a file is the mark for something removed."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
