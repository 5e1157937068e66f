"""Loop devices: a file as a block device.

Reference: loop(4); Linux include/uapi/linux/loop.h.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A  # since Linux 5.8
_LO_FLAGS_READ_ONLY: Final = 1
_LO_FLAGS_AUTOCLEAR: Final = 4

# struct loop_config: fd, block_size; struct loop_info64, of which only lo_flags is ours to say; reserved words.
_CONFIG: Final = struct.Struct("=II 40x 12xI 160x 16x 64x")

# Another process may take the device between the call that finds it and the one that takes it.
_ATTEMPTS: Final = 64


@contextmanager
def read_only_loop(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a file a loop device, whose path is yielded.

    The kernel takes the device back when this context is left, or later, with the last mount of it.

    Raises:
        OSError: there are no loop devices here, or none is free.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        name, device = _attach(file)
        try:
            yield name
        finally:
            os.close(device)
    finally:
        os.close(file)


def _attach(file: int) -> tuple[str, int]:
    config = _CONFIG.pack(file, 0, _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            name = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
                continue
            return name, device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/dev/loop-control")
