"""The bytes of an EROFS image: superblock, inodes, attributes, directory blocks. Arithmetic only, no I/O.

Reference: Linux Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h, uncompressed images.
"""

import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

BLOCK: Final = 4096
SLOT: Final = 32  # an inode's number ("nid") counts slots from the start of the image
INODE: Final = 64  # the extended form: 32-bit ids, 64-bit size and time

SUPER_OFFSET: Final = 1024

# Layouts of a file's data, as they stand in the inode's format field above the bit that says "extended".
PLAIN: Final = 0 << 1  # in blocks of its own
INLINE: Final = 2 << 1  # what does not fill a block stands right after the inode, in the same block
_EXTENDED: Final = 1

_MAGIC: Final = 0xE0F5E1E2
_HAS_MTIME: Final = 0x2  # times are of modification, not of change
_NO_BLOCK: Final = 0xFFFFFFFF

_SUPER: Final = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
_INODE: Final = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT: Final = struct.Struct("<QHBx")
_XATTR_HEADER: Final = struct.Struct("<IB7x")
_XATTR: Final = struct.Struct("<BBH")

# A directory entry's kind of file, from the mode.
_KINDS: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

# Common beginnings of attribute names are numbers; the two ACLs are numbers altogether.
_PREFIXES: Final = (
    ("system.posix_acl_access", 2),
    ("system.posix_acl_default", 3),
    ("user.", 1),
    ("trusted.", 4),
    ("security.", 6),
)

MAX_XATTR_VALUE: Final = 0xFFFF
# Of one inode: it counts them in units of 4 bytes, in 16 bits, the header of 12 being the first.
MAX_XATTRS_BYTES: Final = (0xFFFF - 1) * 4 + 12


SUPER_END: Final = SUPER_OFFSET + _SUPER.size


def size_of(head: bytes) -> int:
    """Return how many bytes an image has, by its first ``SUPER_END``; -1 if it is not one of ours."""
    if len(head) < SUPER_END:
        return -1
    fields = _SUPER.unpack_from(head, SUPER_OFFSET)
    return int(fields[9]) * BLOCK if fields[0] == _MAGIC else -1


def superblock(*, root_nid: int, inodes: int, blocks: int) -> bytes:
    """Return the superblock; it stands at ``SUPER_OFFSET``. No time, no UUID: the same tree gives the same bytes."""
    return _SUPER.pack(
        _MAGIC,
        0,  # checksum, not in use: whoever keeps the image keeps its digest
        _HAS_MTIME,
        BLOCK.bit_length() - 1,
        0,
        root_nid,
        inodes,
        0,  # build time
        0,
        blocks,
        0,  # metadata begins at block 0: inodes may stand anywhere
        0,
        bytes(16),
        bytes(16),
        0,  # no incompatible feature: every kernel with EROFS reads it
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    )


def inode(
    *,
    layout: int,
    mode: int,
    size: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    nlink: int,
    number: int,
    first_block: int | None = None,
    device: tuple[int, int] | None = None,
    xattr_bytes: int = 0,
) -> bytes:
    """Return an inode; ``xattr_bytes`` of attributes follow it. ``mode`` has the type bits."""
    seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
    where = _NO_BLOCK if first_block is None else first_block
    if device is not None:
        major, minor = device
        where = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    # The attributes' count is in units of 4 bytes, where the header of 12 counts as one.
    count = (xattr_bytes - _XATTR_HEADER.size) // 4 + 1 if xattr_bytes else 0
    return _INODE.pack(
        _EXTENDED | layout,
        count,
        mode,
        0,
        size,
        where & 0xFFFFFFFF,
        number & 0xFFFFFFFF,
        uid,
        gid,
        seconds & 0xFFFFFFFFFFFFFFFF,  # the kernel reads it as signed
        nanoseconds,
        nlink,
    )


def nlink_offset() -> int:
    """Where in an inode its count of links stands."""
    return 44


def can_hold(name: str, value: bytes) -> bool:
    """Say whether an attribute has a form in EROFS at all."""
    found = next(((prefix, index) for prefix, index in _PREFIXES if name.startswith(prefix)), None)
    return found is not None and len(name) - len(found[0]) <= 255 and len(value) <= MAX_XATTR_VALUE


def xattrs(values: Mapping[str, bytes]) -> bytes:
    """Return the attributes as they follow an inode; all of them must be such that ``can_hold``."""
    if not values:
        return b""
    body = [_XATTR_HEADER.pack(0, 0)]
    for name, value in sorted(values.items()):
        prefix, index = next((p, i) for p, i in _PREFIXES if name.startswith(p))
        rest = name[len(prefix) :].encode()
        entry = _XATTR.pack(len(rest), index, len(value)) + rest + value
        body.append(entry + bytes(-len(entry) % 4))
    return b"".join(body)


def directory_blocks(names: Iterable[bytes]) -> list[list[bytes]]:
    """Divide sorted names into the directory's blocks: each holds its entries first, then their names."""
    blocks: list[list[bytes]] = []
    room = 0
    for name in names:
        need = _DIRENT.size + len(name)
        if need > room:
            blocks.append([])
            room = BLOCK
        blocks[-1].append(name)
        room -= need
    return blocks


def directory_size(blocks: Sequence[Sequence[bytes]]) -> int:
    """The size of a directory so divided: whole blocks, and as much as the last one needs."""
    last = blocks[-1]
    return (len(blocks) - 1) * BLOCK + sum(map(len, last)) + _DIRENT.size * len(last)


def directory_block(names: Sequence[bytes], targets: Sequence[tuple[int, int]]) -> bytes:
    """Return one block, not padded, for ``names`` and the (nid, mode) of each."""
    offset = _DIRENT.size * len(names)
    entries = []
    for name, (nid, mode) in zip(names, targets, strict=True):
        entries.append(_DIRENT.pack(nid, offset, _KINDS[stat.S_IFMT(mode)]))
        offset += len(name)
    return b"".join([*entries, *names])
