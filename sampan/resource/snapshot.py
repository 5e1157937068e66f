"""Snapshots and layers as clients ask for them and see them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.sys.measuring import Usage

# On a snapshot that no reboot need leave behind, as a build step's: nobody waits for the disk for its sake.
TRANSIENT_LABEL: Final = "sampan.transient"


class Kind(enum.Enum):
    """What may be done with a snapshot."""

    ACTIVE = "active"  # writable, not yet usable as a parent
    VIEW = "view"  # read-only look at a committed snapshot
    COMMITTED = "committed"  # frozen, may be a parent


@dataclass(frozen=True, slots=True)
class Mount:
    """Arguments of one mount(2)."""

    fstype: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of a snapshot wherever it is."""

    key: str  # the caller's name for it, unique across all kinds
    kind: Kind
    parent: str | None
    created_at_ns: int
    updated_at_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplyProgress:
    """How far a layer has come."""

    read_bytes: int = 0  # of its blob
    existed: bool = False
    done: bool = False
    size_bytes: int = 0  # on disk, once done


@dataclass(frozen=True, slots=True)
class Unstacked:
    """What was removed with stacks."""

    chain_ids: tuple[str, ...] = ()  # what is not there now, from the top down, stack by stack
    reclaimed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotUsage:
    """Disk use of one snapshot, without its parents."""

    key: str
    parent: str | None
    usage: Usage
    diff_id: Digest | None
    layer_users: int  # committed snapshots that share the layer


@dataclass(frozen=True, slots=True)
class DriverReport:
    """Whether a driver can be used here."""

    name: str
    usable: bool
    reason: str  # why not, or what was found


@dataclass(frozen=True, slots=True)
class DriversReport:
    """The driver in use and how the others fared."""

    driver: str
    backing_filesystem: str
    drivers: tuple[DriverReport, ...]


class ChangeKind(enum.Enum):
    """How a path differs."""

    MODIFIED = "modified"
    ADDED = "added"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs."""

    path: bytes  # relative, clean; empty for the root
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer that was made of a snapshot's changes and is in the content store."""

    descriptor: Descriptor
    diff_id: Digest
    size_bytes: int = 0  # on disk, of one that is stored as well
