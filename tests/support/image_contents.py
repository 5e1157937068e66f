"""What is in an image, read from ``docker save``'s archive without any engine, and how two images differ.

The layers are laid over each other here, by the rules of the OCI image specification (layer.md), so that a comparison
depends on no storage driver. Times are not compared: no two builds have the same.
"""

import gzip
import hashlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, cast

import zstandard

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."
_KINDS: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.LNKTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What one path is."""

    kind: str
    mode: int  # permission bits, with set-user-ID and its like
    uid: int
    gid: int
    target: str = ""  # of a symbolic link; numbers of a device
    digest: str = ""  # of a file's bytes
    xattrs: tuple[tuple[str, str], ...] = ()
    linked: tuple[str, ...] = ()  # other paths of the same file


@dataclass(frozen=True, slots=True)
class ImageContents:
    """An image: its config as ``docker inspect`` has it, its history, and every path that a container sees."""

    config: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    layers: tuple[frozenset[str], ...]  # the paths in each layer, whiteouts included
    files: Mapping[str, Facts] = field(default_factory=dict)


def read_image(archive: Path) -> ImageContents:
    """Read the only image of an archive that ``docker save``, ``podman save`` or a builder's docker exporter wrote.

    Raises:
        ValueError: a layer is not what the image's config says of it.
    """
    with tarfile.open(archive) as opened:
        (manifest,) = json.loads(_bytes(opened, "manifest.json"))
        config = json.loads(_bytes(opened, manifest["Config"]))
        tree = _Tree()
        layers = []
        for name, diff_id in zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True):
            layers.append(frozenset(tree.apply(_member(opened, name), diff_id)))
    return ImageContents(config["config"], tuple(config.get("history") or ()), tuple(layers), tree.facts())


def differences(one: ImageContents, other: ImageContents, ignored: Iterable[str] = ()) -> list[str]:
    """Return what differs, a line each: members of the config, then paths.

    ``ignored`` has paths, with all that is below them, and members as ``config Name``.
    """
    left = tuple(ignored)
    found = [
        f"config {key}: {one.config.get(key)!r} and {other.config.get(key)!r}"
        for key in sorted(one.config.keys() | other.config.keys())
        if (one.config.get(key) or None) != (other.config.get(key) or None) and f"config {key}" not in left
    ]
    for path in sorted(one.files.keys() | other.files.keys()):
        if any(path == each or path.startswith(f"{each}/") for each in left):
            continue
        here, there = one.files.get(path), other.files.get(path)
        if here != there:
            found.append(f"{path}: {_told(here, there)}")
    return found


def _told(here: Facts | None, there: Facts | None) -> str:
    if here is None or there is None:
        return f"{'absent' if here is None else here} and {'absent' if there is None else there}"
    names = [name for name in Facts.__dataclass_fields__ if getattr(here, name) != getattr(there, name)]
    return ", ".join(f"{name} {_shown(name, here)} and {_shown(name, there)}" for name in names)


def _shown(name: str, facts: Facts) -> str:
    return oct(facts.mode) if name == "mode" else repr(getattr(facts, name))


class _Tree:
    """Layers as they are laid over each other. Paths are absolute; a file's number says which paths are one file."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0

    def apply(self, layer: IO[bytes], diff_id: str) -> Iterator[str]:
        """Lay ``layer`` over what is there, and yield its paths; check it against ``diff_id`` at its end."""
        plain = _Hashed(_decompressed(layer))
        lower = set(self._facts)
        with tarfile.open(fileobj=cast("IO[bytes]", plain), mode="r|") as entries:
            for entry in entries:
                path = "/" + entry.name.removeprefix("./").strip("/")
                path = "/" if path == "/." else path
                yield path
                self._enter(entries, entry, path, lower)
        plain.check(diff_id)

    def _enter(self, entries: tarfile.TarFile, entry: tarfile.TarInfo, path: str, lower: set[str]) -> None:
        parent, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self._remove_below(parent, only=lower)
        elif name.startswith(_WHITEOUT):
            self._remove(f"{parent}/{name.removeprefix(_WHITEOUT)}", only=lower)
        elif entry.islnk():
            target = "/" + entry.linkname.removeprefix("./").strip("/")
            self._replace(path, self._facts[target], self._numbers[target])
        else:
            self._next += 1
            self._replace(path, _facts(entries, entry), self._next)
        lower.discard(path)

    def _replace(self, path: str, facts: Facts, number: int) -> None:
        before = self._facts.get(path)
        if before is not None and before.kind == "directory" and facts.kind != "directory":
            self._remove_below(path)
        self._facts[path], self._numbers[path] = facts, number

    def _remove(self, path: str, only: set[str]) -> None:
        if path in only:
            self._facts.pop(path, None)
            self._numbers.pop(path, None)
        self._remove_below(path, only)

    def _remove_below(self, path: str, only: set[str] | None = None) -> None:
        below = [each for each in self._facts if each.startswith(f"{path}/") and (only is None or each in only)]
        for each in below:
            del self._facts[each], self._numbers[each]

    def facts(self) -> dict[str, Facts]:
        """Return what every path is in the end."""
        same: defaultdict[int, list[str]] = defaultdict(list)
        for path, number in self._numbers.items():
            same[number].append(path)
        return {
            path: replace(facts, linked=tuple(sorted(set(same[self._numbers[path]]) - {path})))
            for path, facts in self._facts.items()
        }


def _facts(entries: tarfile.TarFile, entry: tarfile.TarInfo) -> Facts:
    kind = _KINDS[entry.type]
    digest, target = "", ""
    if kind == "file":
        content = entries.extractfile(entry)
        assert content is not None
        digest = hashlib.sha256(content.read()).hexdigest()
    elif kind == "symlink":
        target = entry.linkname
    elif kind.endswith("device"):
        target = f"{entry.devmajor}:{entry.devminor}"
    xattrs = tuple(
        sorted(
            (key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape").hex())
            for key, value in entry.pax_headers.items()
            if key.startswith(_XATTR)
        )
    )
    # A symbolic link has no mode of its own: archives say 0777 or what stat(2) says, which is the same.
    mode = 0o777 if kind == "symlink" else entry.mode & 0o7777
    return Facts(kind, mode, entry.uid, entry.gid, target, digest, xattrs)


class _Hashed:
    """A stream that knows the digest of all that was read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read as the stream does."""
        piece = self._stream.read(size)
        self._hash.update(piece)
        return piece

    def check(self, diff_id: str) -> None:
        """Raise ValueError unless the whole stream is ``diff_id``."""
        while self.read(1 << 20):
            pass
        found = f"sha256:{self._hash.hexdigest()}"
        if found != diff_id:
            raise ValueError(f"a layer is {found}, and not {diff_id}")


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    magic = stream.read(4)
    stream.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if magic == b"\x28\xb5\x2f\xfd":
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(stream))
    return stream


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    # dockerd saves a layer that an image has twice once, and a link to it.
    member = archive.getmember(name)
    content = archive.extractfile(member)
    assert content is not None, f"{name} is no file"
    return content


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    return _member(archive, name).read()
