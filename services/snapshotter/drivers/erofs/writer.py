"""Write an EROFS image front to back: data streams through, and inodes are packed between it.

    block 0   superblock, at 1024
    block 1   the root directory's inode, because its number must fit 16 bits
    then      data, each file from a block of its own, and regions of inodes as they fill, in any order
    last      directories' data

An image depends on nothing but what is put into it, in the order in which it is put.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError, ResourceExhaustedError
from sampan.sys.files import start_writing
from snapshotter.drivers.erofs import layout

# Inodes wait in memory until a region of them is full; its place in the file is fixed when it is begun.
_REGION: Final = 16 * layout.BLOCK

# A tail that leaves no room for another file's next to it is better off in a block of its own.
_MAX_INLINE: Final = 3 * layout.BLOCK // 4

# So often the disk is given work, lest all of it be left for the end.
_AHEAD: Final = 8 << 20

_ROOT: Final = layout.BLOCK
MAX_ROOT_XATTRS: Final = layout.BLOCK - layout.INODE

# Block addresses are 32 bits, and the last is the sign for "none".
_MAX_BLOCKS: Final = 0xFFFFFFFE


@dataclass(frozen=True, slots=True)
class Meta:
    """What an inode says of its file beside where the data is. ``mode`` has the type bits."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Mapping[str, bytes]


class ErofsWriter:
    """One EROFS image, written to an empty file. Call ``finish`` at the end; until then it is not an image."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = 2 * layout.BLOCK  # the first byte that nothing is placed at yet; a multiple of a block
        self._begun = 0  # the first byte that the kernel was not yet asked to bring to disk
        self._region = bytearray()
        self._region_start = 0
        self.inodes = 0

    def file(self, meta: Meta, size: int, pieces: Iterable[bytes | memoryview]) -> int:
        """Write a regular file of ``size`` bytes and return its nid; ``pieces`` add up to ``size``."""
        xattrs = layout.xattrs(meta.xattrs)
        tail_size = size % layout.BLOCK
        inline = bool(tail_size) and self._fits(len(xattrs) + tail_size, tail_size)
        start, tail = self._stream(size, pieces, keep=tail_size if inline else 0)
        return self._inode(meta, size, xattrs, tail, first_block=start // layout.BLOCK if size > len(tail) else None)

    def sparse_file(
        self, meta: Meta, size: int, parts: Iterable[tuple[int, int]], pieces: Iterable[bytes | memoryview]
    ) -> int:
        """Write a file whose ``parts`` alone hold data; the rest is a hole in the image's own file too."""
        start = self._allocate(size)
        todo = iter(parts)
        offset, room = 0, 0
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                while not room:
                    offset, room = next(todo)
                self._write(rest[:room], start + offset)
                written = min(len(rest), room)
                offset, room, rest = offset + written, room - written, rest[written:]
        return self._inode(meta, size, layout.xattrs(meta.xattrs), b"", first_block=start // layout.BLOCK)

    def symlink(self, meta: Meta, target: bytes) -> int:
        """Write a symbolic link and return its nid."""
        return self.file(meta, len(target), (target,))

    def node(self, meta: Meta, device: tuple[int, int] | None = None) -> int:
        """Write a device, or with none a fifo, and return its nid."""
        return self._inode(meta, 0, layout.xattrs(meta.xattrs), b"", device=device)

    def reserve_directory(self, meta: Meta, names: list[bytes], *, root: bool = False) -> "Directory":
        """Find a place for a directory whose sorted ``names`` are final, so that its number is known.

        Raises:
            InvalidArgumentError: the root's attributes do not fit beside it.
        """
        blocks = layout.directory_blocks(names)
        size = layout.directory_size(blocks)
        xattrs = layout.xattrs(meta.xattrs)
        tail_size = size % layout.BLOCK
        inline = bool(tail_size) and self._fits(len(xattrs) + tail_size, tail_size)
        if root:
            if len(xattrs) > MAX_ROOT_XATTRS:
                raise InvalidArgumentError(
                    f"the root directory's attributes need {len(xattrs)} bytes, the most is {MAX_ROOT_XATTRS}"
                )
            inline = inline and len(xattrs) + tail_size <= MAX_ROOT_XATTRS
        start = self._allocate(size - tail_size if inline else size)
        head = layout.INODE + len(xattrs) + (tail_size if inline else 0)
        offset = _ROOT if root else self._place(head)
        self.inodes += 1
        return Directory(meta, blocks, size, xattrs, inline, start, offset, self.inodes)

    def directory(self, place: "Directory", target: Callable[[bytes], tuple[int, int]], nlink: int) -> None:
        """Write a directory to its place; ``target`` returns the nid and mode of each of its names."""
        tail = b""
        for index, names in enumerate(place.blocks):
            block = layout.directory_block(names, [target(name) for name in names])
            if place.inline and index == len(place.blocks) - 1:
                tail = block
            else:
                self._write(block, place.start + index * layout.BLOCK)
        whole = place.size > len(tail)
        head = layout.inode(
            layout=layout.INLINE if place.inline else layout.PLAIN,
            mode=place.meta.mode,
            size=place.size,
            uid=place.meta.uid,
            gid=place.meta.gid,
            mtime_ns=place.meta.mtime_ns,
            nlink=nlink,
            number=place.number,
            first_block=place.start // layout.BLOCK if whole else None,
            xattr_bytes=len(place.xattrs),
        )
        self._put(place.offset, head + place.xattrs + tail)

    def set_nlink(self, nid: int, nlink: int) -> None:
        """Say how many names a file has, when that is known."""
        self._put(nid * layout.SLOT + layout.nlink_offset(), nlink.to_bytes(4, "little"))

    def finish(self) -> int:
        """Write what is left and return the image's size in bytes."""
        self._flush()
        blocks = self._end // layout.BLOCK
        os.ftruncate(self._fd, self._end)
        root_nid = _ROOT // layout.SLOT
        self._write(layout.superblock(root_nid=root_nid, inodes=self.inodes, blocks=blocks), layout.SUPER_OFFSET)
        return self._end

    def _stream(self, size: int, pieces: Iterable[bytes | memoryview], keep: int) -> tuple[int, bytes]:
        """Write all but the last ``keep`` bytes to blocks of their own; return where, and those."""
        left = size - keep
        if not left:
            return 0, b"".join(pieces)
        start = offset = self._allocate(left)
        tail = bytearray()
        for piece in pieces:
            if left:
                self._write(piece[:left], offset)
            taken = min(left, len(piece))
            offset, left = offset + taken, left - taken
            tail += piece[taken:]
        return start, bytes(tail)

    def _inode(
        self,
        meta: Meta,
        size: int,
        xattrs: bytes,
        tail: bytes,
        first_block: int | None = None,
        device: tuple[int, int] | None = None,
    ) -> int:
        self.inodes += 1
        offset = self._place(layout.INODE + len(xattrs) + len(tail))
        head = layout.inode(
            layout=layout.INLINE if tail else layout.PLAIN,
            mode=meta.mode,
            size=size,
            uid=meta.uid,
            gid=meta.gid,
            mtime_ns=meta.mtime_ns,
            nlink=1,
            number=self.inodes,
            first_block=first_block,
            device=device,
            xattr_bytes=len(xattrs),
        )
        self._put(offset, head + xattrs + tail)
        return offset // layout.SLOT

    def _fits(self, beside_inode: int, tail_size: int) -> bool:
        return tail_size <= _MAX_INLINE and layout.INODE + beside_inode <= layout.BLOCK

    def _allocate(self, size: int) -> int:
        start = self._end
        if start - self._begun >= _AHEAD:
            start_writing(self._fd, self._begun, start - self._begun)
            self._begun = start
        self._end += -(-size // layout.BLOCK) * layout.BLOCK
        if self._end // layout.BLOCK > _MAX_BLOCKS:
            raise ResourceExhaustedError(f"layer of more than {_MAX_BLOCKS * layout.BLOCK} bytes")
        return start

    def _place(self, size: int) -> int:
        """Find room for an inode and what stands with it, in one block if it can be, and return its offset."""
        used = -(-len(self._region) // layout.SLOT) * layout.SLOT
        in_block = used % layout.BLOCK
        if size <= layout.BLOCK and in_block + size > layout.BLOCK:
            used += layout.BLOCK - in_block
        if not self._region_start or used + size > _REGION:
            self._flush()
            room = max(size, _REGION)
            self._region_start, used = self._allocate(room), 0
        # Only the length says what is taken; the bytes follow with ``_put``.
        self._region.extend(bytes(used + size - len(self._region)))
        return self._region_start + used

    def _put(self, offset: int, piece: bytes) -> None:
        begin = offset - self._region_start
        if self._region_start and begin >= 0 and begin + len(piece) <= len(self._region):
            self._region[begin : begin + len(piece)] = piece
        else:
            self._write(piece, offset)

    def _flush(self) -> None:
        if self._region:
            self._write(self._region, self._region_start)
        self._region = bytearray()

    def _write(self, piece: bytes | bytearray | memoryview, offset: int) -> None:
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(self._fd, rest, offset)
            rest, offset = rest[written:], offset + written


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory's place in the image, before its contents are known."""

    meta: Meta
    blocks: list[list[bytes]]
    size: int
    xattrs: bytes
    inline: bool
    start: int  # of its whole blocks
    offset: int  # of its inode
    number: int

    @property
    def nid(self) -> int:
        """Its number."""
        return self.offset // layout.SLOT
