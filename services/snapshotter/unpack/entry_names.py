"""What the name of a layer's entry means: a path below the root, and perhaps a mark that removes something.

Reference: OCI image spec 1.1, "Representing Changes" and "Whiteouts"; AUFS for the names that begin with two marks.
"""

import enum
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.tar.entry import Entry, EntryType
from snapshotter.drivers.whiteouts import is_mark

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_META: Final = b".wh..wh."


class Meaning(enum.Enum):
    """What an entry's name asks for."""

    FILE = "file"  # make ``path``
    WHITEOUT = "whiteout"  # hide what lower layers have at ``path``
    OPAQUE = "opaque"  # hide what lower layers have inside the directory ``path``
    NOTHING = "nothing"  # AUFS's own bookkeeping


@dataclass(frozen=True, slots=True)
class Place:
    """An entry's place in the tree; ``path`` is relative, clean, and empty for the root itself."""

    meaning: Meaning
    path: bytes


def clean(name: bytes, what: str = "name") -> bytes:
    """Return ``name`` relative to the root, without empty and ``.`` components.

    Raises:
        InvalidArgumentError: a component is ``..``.
    """
    if b"/." not in name and b"//" not in name and not name.startswith((b"/", b".")) and not name.endswith(b"/"):
        return name  # nearly all are
    parts = name.split(b"/")
    if b".." in parts:
        raise InvalidArgumentError(f"its {what} has a '..' component, which could lead out of the layer")
    return b"/".join(part for part in parts if part not in (b"", b"."))


def place(name: bytes) -> Place:
    """Say what an entry's name asks for.

    Raises:
        InvalidArgumentError: the name is empty, leads out of the layer, or is a mark that marks nothing.
    """
    if not name:
        raise InvalidArgumentError("its name is empty")
    path = clean(name)
    if WHITEOUT not in path:
        return Place(Meaning.FILE, path)
    parent, slash, last = path.rpartition(b"/")
    for part in parent.split(b"/"):
        if part.startswith(_META):
            return Place(Meaning.NOTHING, path)
        if part.startswith(WHITEOUT):
            raise InvalidArgumentError("it is inside a whiteout, which has no inside")
    if last == OPAQUE:
        return Place(Meaning.OPAQUE, parent)
    if last.startswith(_META):
        return Place(Meaning.NOTHING, path)
    if last.startswith(WHITEOUT):
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise InvalidArgumentError("it is a whiteout of nothing")
        return Place(Meaning.WHITEOUT, parent + slash + hidden)
    return Place(Meaning.FILE, path)


def check_file(entry: Entry, where: Place) -> None:
    """Raise InvalidArgumentError for a file that would pass for a mark of the engine's, or for the root."""
    for xattr in entry.xattrs:
        if is_mark(xattr):
            raise InvalidArgumentError(f"it sets {xattr}, which only the engine may")
    if not where.path and entry.type is not EntryType.DIRECTORY:
        raise InvalidArgumentError("it would replace the root directory by something else")
