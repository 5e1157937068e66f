"""Content as clients of a store ask for it and write it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from sampan.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that is here, whole and verified."""

    digest: Digest
    size: int  # bytes
    created_ns: int  # since the epoch
    updated_ns: int  # when its labels last changed
    labels: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: tuple[str, ...]) -> str | None:
        """Return what a filter can ask of it: ``digest``, ``size`` and ``labels.<key>``."""
        match path:
            case ("digest",):
                return self.digest
            case ("size",):
                return str(self.size)
            case ("labels", *key):
                return self.labels.get(".".join(key))
        return None


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How far a write has come that is not yet committed."""

    ref: str
    offset: int  # bytes written so far
    total: int  # bytes expected, 0 if unknown
    expected: Digest | None
    started_ns: int
    updated_ns: int


class Action(enum.Enum):
    """What a message of a writer asks for."""

    STAT = "stat"
    WRITE = "write"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class WriteStep:
    """One message of a writer."""

    action: Action
    ref: str = ""  # in the first one at least
    total: int = 0
    expected: Digest | None = None
    offset: int = 0
    data: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteReply:
    """The answer to one."""

    action: Action
    offset: int
    total: int
    digest: Digest
    started_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class LastingLease:
    """What a service keeps for as long as it likes."""

    id: str  # chosen by the owner, whose leases are found by it; no other owner may have one of that name
    owner: str  # the service
    digests: tuple[Digest, ...] = ()  # of blobs
    diff_ids: tuple[Digest, ...] = ()  # base first: these layers and their stack stay unpacked, as far as they are
    created_ns: int = 0  # since the epoch; set by imaged


@dataclass(frozen=True, slots=True)
class RemovedLeases:
    """What nothing needs any more since leases are gone."""

    stacks: tuple[tuple[Digest, ...], ...] = ()  # chain IDs, base first: for ``Layers.unstack``
    reclaimed_bytes: int = 0  # of blobs
