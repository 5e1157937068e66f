"""What a stream is packed with, told by its first bytes, and what unpacking one may take of memory.

Names, media types and headers are often wrong about it, so readers go by this alone, as Docker's do.
"""

import enum
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.tar.reader import BLOCK, check_header

# How many first bytes tell.
MAGIC_BYTES: Final = 6
# What `zstd -d` takes without being asked to take more.
ZSTD_WINDOW_BYTES: Final = 128 << 20
# Four times what `xz -9` needs; a header can ask for 4 GiB.
XZ_MEMORY_BYTES: Final = 256 << 20


class Compression(enum.Enum):
    """How a stream is packed."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


_MAGIC: Final = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\0", Compression.XZ),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    # A frame to be skipped: parallel compressors begin with one that says how long the next is.
    *((bytes((number, 0x2A, 0x4D, 0x18)), Compression.ZSTD) for number in range(0x50, 0x60)),
)


def compression(head: bytes) -> Compression | None:
    """Say how a stream with these first ``MAGIC_BYTES`` bytes is packed; None: plain, or nothing that is known."""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def is_archive(head: bytes) -> bool:
    """Say whether a stream with these first bytes, ``BLOCK`` or more, is something packed, or a tar."""
    if compression(head) is not None:
        return True
    if len(head) < BLOCK:
        return False
    try:
        check_header(head[:BLOCK])
    except InvalidArgumentError:
        return False
    return True
