"""What happens while an image is pulled or pushed, as events for whoever watches."""

import enum
from dataclasses import dataclass

from sampan.resource.image import ImageDetails


class Phase(enum.Enum):
    """Where a layer is on its way; each ends in COMPLETE or EXISTS, or, pushed, in PUSHED, MOUNTED or THERE."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    RETRYING = "retrying"  # ``current`` is the seconds until the next try
    VERIFYING = "verifying"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    COMPLETE = "complete"
    EXISTS = "exists"  # it was here, unpacked, before
    PREPARING = "preparing"
    PUSHING = "pushing"
    PUSHED = "pushed"
    MOUNTED = "mounted"  # the registry had it in another repository
    THERE = "there"  # the repository had it


@dataclass(frozen=True, slots=True)
class Resolved:
    """The registry has answered: this is what will be brought."""

    reference: str  # normalised, with the registry
    digest: str  # of the manifest or index
    layers: tuple[str, ...]  # digests, base first


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """One layer, a step further."""

    digest: str
    phase: Phase
    current: int = 0  # bytes of the compressed layer
    total: int = 0
    mounted_from: str = ""  # with MOUNTED: the repository


@dataclass(frozen=True, slots=True)
class Done:
    """The image is there and has its name."""

    image: ImageDetails
    digest: str  # of the manifest or index
    existed: bool  # the name pointed to the same before


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image of an archive is there, and has its names."""

    image_id: str
    references: tuple[str, ...]  # in familiar form; empty if the archive gives it none


@dataclass(frozen=True, slots=True)
class Received:
    """So much of an archive has come in."""

    size_bytes: int


Progress = Resolved | LayerProgress | Done | Loaded | Received
