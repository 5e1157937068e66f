"""Turn a layer's tar into an EROFS image in one pass; nothing of the layer ever becomes a file on the host.

File data goes straight to the image; the tree of names is kept in memory and written at the end. What an entry means
is the same as in ``snapshotter.unpack.extract``, and the tests hold the two against each other.

Reference: OCI image spec 1.1, "Applying Changesets".
"""

import errno
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError, ResourceExhaustedError, SampanError, reworded
from sampan.tar.entry import Entry, EntryType
from sampan.tar.reader import TarReader
from snapshotter.drivers.erofs import layout
from snapshotter.drivers.erofs.writer import Directory, ErofsWriter, Meta
from snapshotter.drivers.whiteouts import OPAQUE_XATTR, WHITEOUT_DEVICE
from snapshotter.unpack.entry_names import Meaning, Place, check_file, clean, place

_MAX_LINKS: Final = 40  # as the kernel's MAXSYMLINKS
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_MODES: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.CHAR_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.DIRECTORY: stat.S_IFDIR,
}

# Of a directory that the archive does not name: no time of its own, or the same layer would give other bytes each day.
_IMPLIED: Final = Meta(stat.S_IFDIR | 0o755, 0, 0, 0, {})


# A file that is nothing but its number and mode, as ``nid << 16 | mode``: nearly all of a layer, and an object for each
# would be most of a worker's memory.
_MODE_BITS: Final = 16


@dataclass(slots=True, eq=False)
class Leaf:
    """Anything but a directory of which more is to be known; in the image already. ``names`` counts its hard links."""

    nid: int
    mode: int
    target: bytes = b""  # of a symbolic link
    names: int = 1
    whiteout: bool = False


@dataclass(slots=True, eq=False)
class Folder:
    """A directory, with what it holds so far."""

    meta: Meta = _IMPLIED
    opaque: bool = False
    children: "dict[bytes, int | Leaf | Folder]" = field(default_factory=dict)


@dataclass(slots=True)
class Converted:
    """What was made."""

    size_bytes: int = 0  # of the image
    inodes: int = 0
    skipped_xattrs: int = 0  # that EROFS cannot hold
    complete: bool = False  # the layer hides all that is below it


class Converter:
    """Makes one image. Later entries replace earlier ones of the same name."""

    def __init__(self, fd: int) -> None:
        """Take a descriptor of the empty file that the image is written to."""
        self._image = ErofsWriter(fd)
        self._root = Folder()
        self._linked: list[Leaf] = []
        # The last entry's directory: the next one is nearly always in the same. Good as long as no name is taken away.
        self._last: tuple[bytes, Folder] = (b"", self._root)
        self._result = Converted()

    def convert(self, reader: TarReader) -> Converted:
        """Write an image of all entries of ``reader``.

        Raises:
            InvalidArgumentError: an entry that must not or cannot be; the message names it.
            ResourceExhaustedError: the disk is full.
        """
        for entry in reader:
            try:
                self._entry(entry, reader)
            except OSError as error:
                kind = ResourceExhaustedError if error.errno in _FULL else InvalidArgumentError
                raise kind(f"entry {entry.shown}: {error.strerror}") from error
            except SampanError as error:
                raise reworded(error, f"entry {entry.shown}: {error}") from error
        try:
            self._finish()
        except OSError as error:
            raise ResourceExhaustedError(f"EROFS image: {error.strerror}") from error
        return self._result

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        where = place(entry.name)
        if where.meaning is Meaning.NOTHING:
            return
        if where.meaning is not Meaning.FILE:
            self._mark(where)
            return
        check_file(entry, where)
        if not where.path:
            self._root.meta = self._meta(entry)
            return
        directory, _, name = where.path.rpartition(b"/")
        if directory != self._last[0]:
            self._last = (directory, self._folder(directory, make=True))
        parent = self._last[1]
        if entry.type is EntryType.DIRECTORY:
            self._directory(parent, name).meta = self._meta(entry)
        elif entry.type is EntryType.HARD_LINK:
            self._hard_link(entry, parent, name)
        else:
            leaf = self._leaf(entry, reader)
            self._forget(parent, name)
            parent.children[name] = leaf

    def _leaf(self, entry: Entry, reader: TarReader) -> int | Leaf:
        meta = self._meta(entry)
        if entry.type is EntryType.FILE:
            if entry.parts is None:
                nid = self._image.file(meta, entry.size, reader.data())
            else:
                nid = self._image.sparse_file(meta, entry.size, entry.parts, reader.data())
        elif entry.type is EntryType.SYMLINK:
            if not entry.link:
                raise InvalidArgumentError("it is a symbolic link to nothing")
            nid = self._image.symlink(meta, entry.link)
        else:
            device = entry.device if entry.type is not EntryType.FIFO else None
            nid = self._image.node(meta, device)
        whiteout = entry.type is EntryType.CHAR_DEVICE and entry.device == WHITEOUT_DEVICE
        if not whiteout and entry.type is not EntryType.SYMLINK:
            return nid << _MODE_BITS | meta.mode
        return Leaf(nid, meta.mode, entry.link, whiteout=whiteout)

    def _directory(self, parent: Folder, name: bytes) -> Folder:
        """Return the directory of that name, a new one if there was none; one that replaces a whiteout is opaque."""
        found = parent.children.get(name)
        if isinstance(found, Folder):
            return found
        self._forget(parent, name)
        made = Folder(opaque=isinstance(found, Leaf) and found.whiteout)
        parent.children[name] = made
        return made

    def _hard_link(self, entry: Entry, parent: Folder, name: bytes) -> None:
        directory, _, source = clean(entry.link, "link target").rpartition(b"/")
        if not source:
            raise InvalidArgumentError("it is a hard link to nothing")
        folder = self._folder(directory, make=False)
        target = folder.children.get(source)
        if folder is parent and source == name:
            raise InvalidArgumentError("it is a hard link to itself")
        if target is None:
            raise InvalidArgumentError(f"its link target {entry.link[:120]!r} is not in the layer")
        if isinstance(target, Folder):
            raise InvalidArgumentError("it is a hard link to a directory")
        replaced = parent.children.get(name)
        if isinstance(replaced, Folder) and any(inner is folder for inner in _folders(replaced)):
            raise InvalidArgumentError(f"its link target {entry.link[:120]!r} is in the directory that it replaces")
        self._forget(parent, name)
        if isinstance(target, int):
            folder.children[source] = target = Leaf(*_parts(target))
        parent.children[name] = target
        target.names += 1
        self._linked.append(target)

    def _mark(self, where: Place) -> None:
        """Put a whiteout, or make a directory opaque. What this layer itself puts there stays visible."""
        directory = where.path if where.meaning is Meaning.OPAQUE else where.path.rpartition(b"/")[0]
        folder = self._folder(directory, make=True, through_links=False)
        if where.meaning is Meaning.OPAQUE:
            folder.opaque = True
            return
        name = where.path.rpartition(b"/")[2]
        found = folder.children.get(name)
        if isinstance(found, Folder):
            found.opaque = True
        elif found is None:
            meta = Meta(stat.S_IFCHR, 0, 0, 0, {})
            folder.children[name] = Leaf(self._image.node(meta, WHITEOUT_DEVICE), meta.mode, whiteout=True)

    def _forget(self, parent: Folder, name: bytes) -> None:
        """Take a name out of the tree. Its data stays in the image, where nothing refers to it any more."""
        found = parent.children.pop(name, None)
        if found is not None:
            self._last = (b"", self._root)
        if isinstance(found, Leaf):
            found.names -= 1
        elif isinstance(found, Folder):
            for folder in _folders(found):
                for child in folder.children.values():
                    if isinstance(child, Leaf):
                        child.names -= 1

    def _folder(self, path: bytes, *, make: bool, through_links: bool = True) -> Folder:
        """Return the directory that ``path`` names. Links lead where they would with the layer as root, and no further.

        Raises:
            InvalidArgumentError: something on the way is not a directory, or missing, or links go in a circle.
        """
        todo = path.split(b"/")[::-1] if path else []
        stack = [self._root]
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(stack) > 1:
                    stack.pop()
                continue
            found = stack[-1].children.get(part)
            if found is None or (isinstance(found, Leaf) and found.whiteout):
                if not make:
                    raise InvalidArgumentError(f"directory {_shown(part)} is missing")
                found = self._directory(stack[-1], part)
            if isinstance(found, Folder):
                stack.append(found)
                continue
            if isinstance(found, int) or not stat.S_ISLNK(found.mode):
                raise InvalidArgumentError(f"{_shown(part)} is not a directory")
            if not through_links:
                raise InvalidArgumentError("it is a whiteout whose directory is reached through a link")
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgumentError(f"links at {_shown(part)} lead in a circle")
            if found.target.startswith(b"/"):
                del stack[1:]
            todo += found.target.split(b"/")[::-1]
        return stack[-1]

    def _meta(self, entry: Entry) -> Meta:
        mode = _MODES[entry.type] | (0o777 if entry.type is EntryType.SYMLINK else entry.mode)
        return Meta(mode, entry.uid, entry.gid, entry.mtime_ns, self._kept(entry))

    def _kept(self, entry: Entry) -> Mapping[str, bytes]:
        if not entry.xattrs:
            return {}
        # The kernel allows user.* on nothing but files and directories.
        bare = entry.type not in (EntryType.FILE, EntryType.DIRECTORY)
        kept = {
            name: value
            for name, value in entry.xattrs.items()
            if layout.can_hold(name, value) and not (bare and name.startswith("user."))
        }
        if (size := len(layout.xattrs(kept))) > layout.MAX_XATTRS_BYTES:
            raise InvalidArgumentError(
                f"its extended attributes need {size} bytes, the most is {layout.MAX_XATTRS_BYTES}"
            )
        self._result.skipped_xattrs += len(entry.xattrs) - len(kept)
        return kept

    def _finish(self) -> None:
        """Place all directories, so that each knows its own and its parent's number, and write them."""
        for leaf in self._linked:
            if leaf.names:
                self._image.set_nlink(leaf.nid, leaf.names)
        placed: list[tuple[Folder, Directory, Directory]] = []
        todo: list[tuple[Folder, Directory | None]] = [(self._root, None)]
        places: dict[int, Directory] = {}
        while todo:
            folder, parent = todo.pop()
            names = sorted([b".", b"..", *folder.children])
            where = self._image.reserve_directory(_with_opaque(folder), names, root=parent is None)
            places[id(folder)] = where
            placed.append((folder, where, parent or where))
            subfolders = sorted(
                ((name, child) for name, child in folder.children.items() if isinstance(child, Folder)),
                reverse=True,
                key=lambda item: item[0],
            )
            todo.extend((child, where) for _, child in subfolders)
        for folder, where, parent_place in placed:
            self._write_folder(folder, where, parent_place, places)
        self._result.inodes = self._image.inodes
        self._result.complete = self._root.opaque
        self._result.size_bytes = self._image.finish()

    def _write_folder(
        self, folder: Folder, where: Directory, parent: Directory, places: Mapping[int, Directory]
    ) -> None:
        ends = {b".": (where.nid, stat.S_IFDIR), b"..": (parent.nid, stat.S_IFDIR)}

        def target(name: bytes) -> tuple[int, int]:
            child = folder.children.get(name)
            if isinstance(child, int):
                return _parts(child)
            if isinstance(child, Leaf):
                return child.nid, child.mode
            return ends[name] if child is None else (places[id(child)].nid, stat.S_IFDIR)

        subfolders = sum(isinstance(child, Folder) for child in folder.children.values())
        self._image.directory(where, target, nlink=2 + subfolders)


def _parts(leaf: int) -> tuple[int, int]:
    """Return nid and mode of a file that is nothing more."""
    return leaf >> _MODE_BITS, leaf & (1 << _MODE_BITS) - 1


def _folders(top: Folder) -> Iterator[Folder]:
    """Yield ``top`` and all directories below it."""
    todo = [top]
    while todo:
        folder = todo.pop()
        yield folder
        todo += [child for child in folder.children.values() if isinstance(child, Folder)]


def _with_opaque(folder: Folder) -> Meta:
    meta = folder.meta
    if not folder.opaque:
        return meta
    return Meta(meta.mode, meta.uid, meta.gid, meta.mtime_ns, {**meta.xattrs, OPAQUE_XATTR: b"y"})


def _shown(name: bytes) -> str:
    return repr(name[:120].decode(errors="backslashreplace"))
