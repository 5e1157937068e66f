"""Parts of an engine, for a sequence that needs several of them to say which: it derives its protocol from these."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # what a command line never calls need not be imported
    from collections.abc import AsyncGenerator, Sequence

    from sampan.build.protocols import Builder
    from sampan.disk import Disk
    from sampan.oci.platform import Platform
    from sampan.resource.container import ContainerDetails
    from sampan.resource.image import ImageDetails
    from sampan.resource.listing import Filters, Page, Selection
    from sampan.resource.protocols import Containers, Events, Host, Volumes
    from sampan.resource.snapshot import DriversReport, SnapshotUsage
    from sampan.resource.storage.images import Images
    from sampan.resource.storage.snapshots import Differ, Layers, Snapshots


class ImageLookup(Protocol):
    """What images there are; a part of ``resource.storage.images.Images``, which says what each promises."""

    async def get(self, image: str, *, manifests: bool = False, platform: "Platform | None" = None) -> "ImageDetails":
        """Return one."""

    async def list(self, *, brief: bool = False) -> "Sequence[ImageDetails]":
        """Return all."""

    def pages(self, *, manifests: bool = False) -> "AsyncGenerator[Page[ImageDetails], None]":
        """Yield all, some at a time."""


class ContainerLookup(Protocol):
    """What containers there are; a part of ``resource.protocols.Containers``, which says what each promises."""

    async def get(self, container: str, *, size: bool = False) -> "ContainerDetails":
        """Return one."""

    def pages(
        self, selection: "Selection" = ..., filters: "Filters" = ..., *, size: bool = False
    ) -> "AsyncGenerator[Sequence[ContainerDetails], None]":
        """Yield those asked for, some at a time."""


class LayerFacts(Protocol):
    """How layers are kept; a part of ``resource.storage.snapshots.Layers``, which says what each promises."""

    async def drivers(self) -> "DriversReport":
        """Return the driver in use."""

    async def usages(self, *, committed: bool = False) -> "Sequence[SnapshotUsage]":
        """Return the disk use of snapshots."""


class HasImages(Protocol):
    """Has images."""

    @property
    def images(self) -> "Images":
        """Images."""


class HasLayers(Protocol):
    """Has layers."""

    @property
    def layers(self) -> "Layers":
        """Layers."""


class HasSnapshots(Protocol):
    """Has snapshots."""

    @property
    def snapshots(self) -> "Snapshots":
        """Snapshots."""


class HasDiffer(Protocol):
    """Has what makes layers of snapshots."""

    @property
    def differ(self) -> "Differ":
        """What makes layers of snapshots."""


class HasContainers(Protocol):
    """Has containers."""

    @property
    def containers(self) -> "Containers":
        """Containers."""


class HasVolumes(Protocol):
    """Has volumes."""

    @property
    def volumes(self) -> "Volumes":
        """Volumes."""


class HasBuilds(Protocol):
    """Has a builder."""

    @property
    def builds(self) -> "Builder":
        """The builder."""


class HasEvents(Protocol):
    """Has events."""

    @property
    def events(self) -> "Events":
        """Events."""


class HasHost(Protocol):
    """Has a host."""

    @property
    def host(self) -> "Host":
        """The host as runtimed sees it."""


class HasStores(Protocol):
    """Has what services keep on disk."""

    @property
    def content_disk(self) -> "Disk":
        """Of blobs."""

    @property
    def layer_disk(self) -> "Disk":
        """Of layers and snapshots."""

    @property
    def runtime_disk(self) -> "Disk":
        """Of containers and volumes."""
