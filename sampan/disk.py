"""What takes room on disk, and who holds it: the values that services and the engine hand to each other."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

# Every kind of holder that there is, in the order in which the first says whose the object is. Metrics are labelled
# with them.
IMAGE: Final = "image"
REGISTRY: Final = "registry"  # a repository of the private registry
LABEL: Final = "label"  # somebody has said: keep this
CONTAINER: Final = "container"
VOLUME: Final = "volume"
CACHE: Final = "build cache"  # a lasting lease
SNAPSHOT: Final = "snapshot"  # somebody else's, as of a containerd that uses ours
LEASE: Final = "lease"
WRITER: Final = "writer"  # it is being made
HOLD: Final = "hold"  # kept for a while, for whoever comes for it
SERVICE: Final = "service"  # databases, directories, what is on its way out
FOREIGN: Final = "foreign"  # somebody put it into the data root, and no service looks at it

HOLDERS: Final = (
    IMAGE, REGISTRY, LABEL, CONTAINER, VOLUME, CACHE, SNAPSHOT, LEASE, WRITER, HOLD, SERVICE, FOREIGN,
)  # fmt: skip

ORPHAN: Final = "orphan"  # nobody; the next pass removes it


@dataclass(frozen=True, slots=True)
class Holder:
    """One who needs an object."""

    kind: str  # of HOLDERS
    id: str = ""  # image, lease or container ID, label, key; a registry's repository
    names: tuple[str, ...] = ()  # of an image or container; of a lease, what it is for; of a cache, whose it is
    expires_ns: int = 0  # since the epoch; 0: does not


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Something on disk."""

    kind: str  # blob, partial, ingest, layer, snapshot, container, volume, stray, trash, records, foreign
    id: str  # digest, key, or path below the service's directory
    size_bytes: int  # allocated on disk
    holders: tuple[Holder, ...] = ()

    @property
    def owner(self) -> str:
        """Whose it is above all, of HOLDERS, or ORPHAN."""
        kinds = {holder.kind for holder in self.holders}
        return next((kind for kind in HOLDERS if kind in kinds), ORPHAN)


@dataclass(frozen=True, slots=True)
class Root:
    """An image, a lease for one to come, or a lasting one, and the layers that it needs."""

    holder: Holder
    diff_ids: tuple[str, ...]  # base first


@dataclass(frozen=True, slots=True)
class Freed:
    """How much of one kind is gone."""

    count: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.count + other.count, self.size_bytes + other.size_bytes)


NOTHING_FREED: Final = Freed()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a pass came to."""

    freed: Mapping[str, Freed] = field(default_factory=dict)  # by kind
    seconds: float = 0.0

    @property
    def reclaimed_bytes(self) -> int:
        """All of it."""
        return sum(freed.size_bytes for freed in self.freed.values())


class Collector(Protocol):
    """What a service does in a pass."""

    @property
    def kinds(self) -> Sequence[str]:
        """What it may free."""

    async def collect(self, *, leftovers: bool) -> Mapping[str, Freed]:
        """Remove what nothing needs, in small steps; ``leftovers``: and what broken downloads left for the next try.

        Safe to cancel and to repeat.

        Raises:
            UnavailableError: somebody who has to be asked what is needed does not answer; nothing doubtful is gone.
        """

    def objects(self, *, measure: bool) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield all that is on disk; without ``measure`` nothing is yielded whose size takes a walk through files."""


def sizes_by_owner(objects: Iterable[StoredObject]) -> dict[tuple[str, str], int]:
    """Return bytes by kind and owner."""
    sizes: dict[tuple[str, str], int] = {}
    for one in objects:
        key = one.kind, one.owner
        sizes[key] = sizes.get(key, 0) + one.size_bytes
    return sizes


class Disk(Protocol):
    """What a service has on disk."""

    def objects(self) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield all of it, some at a time, with who holds it."""

    async def collect(self, *, leftovers: bool = False) -> Collected:
        """Remove what nothing needs; ``leftovers``: and what broken downloads left. UnimplementedError."""
