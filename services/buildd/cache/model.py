"""What the build cache holds, as its rooms and clients see it."""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from buildd.protocol import Tree
from sampan.oci.digest import Digest
from sampan.resource.image import Layer

_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 25


class RecordType(enum.Enum):
    """What a record is, in BuildKit's words (client.UsageRecordType)."""

    REGULAR = "regular"
    LOCAL = "source.local"
    GIT = "source.git.checkout"
    CACHE_MOUNT = "exec.cachemount"
    FRONTEND = "frontend"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Record:
    """Something in the build cache."""

    id: str
    type: RecordType
    description: str
    created_ns: int
    used_ns: int
    uses: int = 0
    parents: tuple[str, ...] = ()  # IDs of records that it was made from and that are here
    layers: tuple[Layer, ...] = ()  # base first; none of what is no tree
    size_bytes: int = 0  # of what only it and its children have; filled in by ``usage``
    in_use: bool = False
    mutable: bool = False
    shared: bool = False  # an image has its layers too


@dataclass(frozen=True, slots=True)
class About:
    """What is noted with a result."""

    description: str
    type: RecordType = RecordType.REGULAR
    parents: tuple[Digest, ...] = ()  # keys of the steps that it was made from


@dataclass(frozen=True, slots=True)
class Found:
    """A step's outputs in the cache, in use until they are let go."""

    ids: tuple[str, ...]
    outputs: tuple[Tree, ...]


class Shelf(Protocol):
    """A part of the build cache: its records, and the way to be rid of them."""

    async def records(self) -> Sequence[Record]:
        """Return what is there."""

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """Remove records, but for those that are in use; return which are gone."""


def record_id(random: bytes) -> str:
    """Return an ID of BuildKit's form, 25 letters and digits, of as many random bytes."""
    return "".join(_ID_LETTERS[byte % len(_ID_LETTERS)] for byte in random[:_ID_LENGTH])
