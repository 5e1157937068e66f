"""What an image's way from a registry, and to one, looks like, step by step."""

import enum
from dataclasses import dataclass

from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference
from sampan.resource.image import Layer


class FetchPhase(enum.Enum):
    """What is happening to a layer."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    COMMITTED = "committed"  # just arrived
    EXISTED = "existed"  # was here before
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True)
class FetchStep:
    """One step of one layer."""

    digest: Digest
    phase: FetchPhase
    offset: int  # bytes so far; with RETRYING, seconds until the next try
    total: int  # bytes


@dataclass(frozen=True, slots=True)
class FetchResolved:
    """All layers are known."""

    lease: str
    reference: Reference
    target: Descriptor
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything is here, held by the lease."""

    image_id: Digest
    target: Descriptor
    manifest: Descriptor


FetchProgress = FetchResolved | FetchStep | Fetched


class PushPhase(enum.Enum):
    """What is happening to a layer."""

    PREPARING = "preparing"
    WAITING = "waiting"
    PUSHING = "pushing"
    PUSHED = "pushed"
    EXISTED = "existed"  # the repository had it
    MOUNTED = "mounted"  # another repository of the registry had it
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True)
class PushStep:
    """One step of one layer."""

    digest: Digest
    phase: PushPhase
    offset: int  # bytes so far; with RETRYING, seconds until the next try
    total: int  # bytes
    mounted_from: str = ""  # repository


@dataclass(frozen=True, slots=True)
class PushResolved:
    """What will be pushed."""

    reference: Reference
    layers: tuple[Layer, ...]  # base first


@dataclass(frozen=True, slots=True)
class Pushed:
    """The registry has the image under its tag."""

    image_id: Digest
    tag: str
    manifest: Descriptor  # or index: what the tag points to there
    instead_of: Descriptor | None = None  # the index, if not all of it is here


PushProgress = PushResolved | PushStep | Pushed
