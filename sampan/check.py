"""What a check finds, and what repairs it: the values that services and the engine hand to each other."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sampan.oci.descriptor import Descriptor

# Every kind of finding that there is: metrics are labelled with them.
DATABASE: Final = "database-damaged"
BLOB_MISSING: Final = "blob-missing"
BLOB_TRUNCATED: Final = "blob-truncated"  # or too long
BLOB_DAMAGED: Final = "blob-damaged"
BLOB_UNREADABLE: Final = "blob-unreadable"  # the disk says so
BLOB_ORPHAN: Final = "blob-orphan"  # a file without a row
IMAGE_BROKEN: Final = "image-broken"
LEASE_BROKEN: Final = "lease-broken"
ROW_BROKEN: Final = "row-broken"  # it refers to one that is not there
LAYER_MISSING: Final = "layer-missing"
LAYER_TRUNCATED: Final = "layer-truncated"
LAYER_DAMAGED: Final = "layer-damaged"
LAYER_CHANGED: Final = "layer-changed"  # a tree that does not hold what was counted when it was made
LAYER_UNREADABLE: Final = "layer-unreadable"
LAYER_ORPHAN: Final = "layer-orphan"  # a directory without a row
SNAPSHOT_MISSING: Final = "snapshot-missing"
SNAPSHOT_ORPHAN: Final = "snapshot-orphan"
CHAIN_BROKEN: Final = "chain-broken"
MOUNT_BROKEN: Final = "mount-broken"
CONTAINER_BROKEN: Final = "container-broken"  # its snapshot is gone
REGISTRY_MISSING: Final = "registry-content-missing"  # a repository holds what is not in the content store
REGISTRY_UNKEPT: Final = "registry-content-unkept"  # nothing keeps what a repository holds
REGISTRY_ROW: Final = "registry-row-broken"  # it does not say what its content says
REGISTRY_LABEL: Final = "registry-label-orphan"  # content is kept for a row that is not there
REGISTRY_UPLOAD: Final = "registry-upload-orphan"
REGISTRY_USERS: Final = "registry-users-broken"  # the file of users cannot be read

KINDS: Final = (
    DATABASE, BLOB_MISSING, BLOB_TRUNCATED, BLOB_DAMAGED, BLOB_UNREADABLE, BLOB_ORPHAN, IMAGE_BROKEN, LEASE_BROKEN,
    ROW_BROKEN, LAYER_MISSING, LAYER_TRUNCATED, LAYER_DAMAGED, LAYER_CHANGED, LAYER_UNREADABLE, LAYER_ORPHAN,
    SNAPSHOT_MISSING, SNAPSHOT_ORPHAN, CHAIN_BROKEN, MOUNT_BROKEN, CONTAINER_BROKEN, REGISTRY_MISSING, REGISTRY_UNKEPT,
    REGISTRY_ROW, REGISTRY_LABEL, REGISTRY_UPLOAD, REGISTRY_USERS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """How far a check is with one kind of thing."""

    what: str  # "blobs", "layers" …
    done: int
    total: int
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    subject: str  # digest, key or name
    problem: str  # a sentence without its subject
    remedy: str  # what would repair it
    path: str = ""
    mendable: bool = True
    affected: tuple[str, ...] = ()  # names of images and containers that suffer
    sources: tuple[str, ...] = ()  # repositories that may have it: "<registry>/<repository>"
    service: str = ""  # who found it


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks a registry."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Means:
    """What a repair may need from outside the service."""

    logins: Mapping[str, Login] = field(default_factory=dict)  # by registry
    blob: Descriptor | None = None  # of a layer: what it can be made of again


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a repair."""

    repaired: bool
    text: str  # what was done, or why not
    restarting: bool = False  # the service begins anew to do it


Step = Amount | Finding


class Checker(Protocol):
    """A part of a service that can be checked."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the findings that it makes and repairs."""

    def check(self, *, quick: bool) -> AsyncGenerator[Step, None]:
        """Yield how far it is, and what is wrong; ``quick`` reads no content. Closing the iterator ends the work."""

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """Repair what ``finding`` names and nothing else; look again first, since it may be old.

        Raises:
            SampanError: it cannot be done now; nothing has been changed.
        """


class Check(Protocol):
    """What is wrong with what a service keeps."""

    def check(self, *, quick: bool = False) -> AsyncGenerator[Step, None]:
        """Yield how far it is, and findings; ``quick`` reads no content."""

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """Repair what ``finding`` names. Raises: it cannot be done now."""

    async def restored(self, deadline_s: float) -> str:
        """Wait until a service that begins anew serves again; return what became of its database.

        Raises:
            UnavailableError: it does not serve by the deadline.
        """
