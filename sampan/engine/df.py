"""What the engine says of itself, and where the disk has gone: by kind, and byte by byte with everyone who holds it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, Protocol

from sampan import services
from sampan.build.request import UsageRecord
from sampan.disk import CONTAINER, IMAGE, LABEL, REGISTRY, SERVICE, SNAPSHOT, Disk, Holder, StoredObject
from sampan.docker.views.info_view import EngineFacts
from sampan.engine.listing import Listed, list_containers, list_images
from sampan.engine.parts import HasBuilds, HasContainers, HasImages, HasLayers, HasStores, HasVolumes, LayerFacts
from sampan.errors import UnavailableError
from sampan.layout import Layout
from sampan.resource.container import ALIVE, ContainerDetails
from sampan.resource.image import ImageDetails
from sampan.resource.listing import ALL_OF_EVERYONE
from sampan.resource.protocols import Host
from sampan.resource.snapshot import SnapshotUsage
from sampan.resource.volume import Volume
from sampan.service.set_aside import read_set_aside

# A builder that has hung must not keep anybody from seeing where the disk has gone.
_BUILDER_S: Final = 20.0


class Measuring(HasImages, HasLayers, HasContainers, HasVolumes, Protocol):
    """What takes disk."""


class Explaining(HasContainers, HasStores, Protocol):
    """What has something on disk, and the names of containers."""


class Counting(HasImages, HasLayers, Protocol):
    """What has images and drivers of layers."""


class Use(NamedTuple):
    """What an image's layers take."""

    size_bytes: int
    shared_bytes: int  # of these, in other images as well


class Sizes:
    """The size of every stored layer, and of every snapshot by its key: a chain ID, or a container's ID."""

    def __init__(self, rows: Sequence[SnapshotUsage]) -> None:
        self._rows = rows
        self.layers: dict[str, int] = {row.diff_id: row.usage.size_bytes for row in rows if row.diff_id}  # by diff ID

    @cached_property
    def snapshots(self) -> Mapping[str, SnapshotUsage]:
        """All of them, by key; images alone can do without."""
        return {row.key: row for row in self._rows}

    def layer(self, diff_id: str) -> int:
        """The size of a layer; 0 if it is not stored."""
        return self.layers.get(diff_id, 0)

    def parts(self, image: ImageDetails) -> list[int]:
        """The size of each of an image's layers; of one that is not unpacked, that of its blob."""
        return [self.layers.get(layer.diff_id, layer.descriptor.size) for layer in image.layers]

    def of(self, image: ImageDetails) -> int:
        """The size of all of an image's layers."""
        return sum(self.parts(image))

    def own_bytes(self, key: str) -> int:
        """The size of one snapshot without its parents; 0 if it is not there."""
        found = self.snapshots.get(key)
        return found.usage.size_bytes if found else 0

    def chain_bytes(self, key: str) -> int:
        """The size of a snapshot and everything below it."""
        total = 0
        while found := self.snapshots.get(key):
            total += found.usage.size_bytes
            key = found.parent or ""
        return total

    def root_bytes(self, container: ContainerDetails) -> int:
        """Return what a container's file system takes, image and own files, if the latter were asked for."""
        return (container.size_rw_bytes or 0) + self.chain_bytes(container.spec.chain_id)

    def together(self, images: Iterable[ImageDetails]) -> int:
        """What the layers of ``images`` take, each counted once however many of them have it."""
        counted: dict[str, int] = {}
        for image in images:
            for layer in image.layers:
                if (diff_id := layer.diff_id) not in counted:
                    size = self.layers.get(diff_id)
                    counted[diff_id] = layer.descriptor.size if size is None else size
        return sum(counted.values())

    def uses(self, images: Sequence[ImageDetails]) -> list[Use]:
        """What each of ``images`` takes, and what it has in common with any other of them."""
        stacks = [tuple([layer.diff_id for layer in image.layers]) for image in images]
        users: Counter[str] = Counter()
        for stack, count in Counter(stacks).items():
            for diff_id in set(stack):
                users[diff_id] += count
        known: dict[tuple[str, ...], Use] = {}  # often many images have the same stack
        for stack in stacks:
            if stack not in known:
                size = sum(map(self.layer, stack)) if all(diff_id in self.layers for diff_id in stack) else 0
                known[stack] = Use(size, sum([self.layer(diff_id) for diff_id in stack if users[diff_id] > 1]))
        return [
            use if (use := known[stack]).size_bytes else Use(self.of(image), use.shared_bytes)
            for image, stack in zip(images, stacks, strict=True)
        ]

    def shared(self, images: Sequence[ImageDetails]) -> dict[str, int]:
        """What each of ``images``, by its ID, has in common with any other of them."""
        return {image.id: use.shared_bytes for image, use in zip(images, self.uses(images), strict=True)}


async def sizes(layers: LayerFacts, *, measure: bool = False) -> Sizes:
    """Ask the snapshotter; with ``measure`` it looks through the files of those snapshots that are written to."""
    return Sizes(await layers.usages(committed=not measure))


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image's layers on disk."""

    image: ImageDetails
    size_bytes: int
    shared_bytes: int  # of these, in other images as well
    containers: int  # made from it


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A container's files."""

    container: ContainerDetails
    size_rw_bytes: int  # written by it
    size_root_bytes: int  # with its image


@dataclass(frozen=True, slots=True)
class Total:
    """What all of a kind come to."""

    count: int
    active: int  # of these, in use
    size_bytes: int
    reclaimable_bytes: int  # of these, what goes if all that is not in use is removed


def content_total(objects: Iterable[StoredObject]) -> Total:
    """Count blobs, and what is on its way to become some; images, registries and labels keep theirs."""
    counted = [one for one in objects if one.owner != SERVICE]
    kept = [one for one in counted if one.owner in (IMAGE, REGISTRY, LABEL)]
    size = sum(one.size_bytes for one in counted)
    return Total(len(counted), len(kept), size, size - sum(one.size_bytes for one in kept))


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Everything, as far as it was asked for."""

    layers_bytes: int  # of images, each layer once
    needed_bytes: int  # of these, in images that containers are made from
    images: tuple[ImageUse, ...]  # newest first
    containers: tuple[ContainerUse, ...]
    volumes: tuple[Volume, ...]
    listed_images: Listed[ImageDetails]  # of which the uses are
    listed_containers: Listed[ContainerDetails]

    def images_total(self) -> Total:
        """Return it with each layer counted once; an image that a container is made from is in use, running or not."""
        active = sum(one.containers > 0 for one in self.images)
        return Total(len(self.images), active, self.layers_bytes, self.layers_bytes - self.needed_bytes)

    def containers_total(self) -> Total:
        """Return it without the containers' images."""
        idle = [one.size_rw_bytes for one in self.containers if one.container.state.status not in ALIVE]
        size = sum(one.size_rw_bytes for one in self.containers)
        return Total(len(self.containers), len(self.containers) - len(idle), size, sum(idle))

    def volumes_total(self) -> Total:
        """Return it; a volume that a container has, running or not, is in use, and one of unknown size has none."""
        idle = [one.size_bytes or 0 for one in self.volumes if not one.used_by]
        size = sum(one.size_bytes or 0 for one in self.volumes)
        return Total(len(self.volumes), len(self.volumes) - len(idle), size, sum(idle))


async def disk_use(services: Measuring, *, images: bool, containers: bool, volumes: bool) -> DiskUse:
    """See ``Engine.disk_use``."""

    async def listed_images() -> Listed[ImageDetails]:
        return await list_images(services.images) if images else Listed((), complete=True)

    async def listed_volumes() -> tuple[Volume, ...]:
        return await services.volumes.list(size=True) if volumes else ()

    here, made, held, found = await asyncio.gather(
        listed_images(),
        list_containers(services.containers, ALL_OF_EVERYONE),
        listed_volumes(),
        sizes(services.layers, measure=containers),
    )
    users = Counter(container.spec.image_id for container in made.items)
    made = Listed([container for container in made.items if not container.spec.owner], made.complete)
    own = [found.own_bytes(container.id) for container in made.items]
    return DiskUse(
        found.together(here.items),
        found.together(image for image in here.items if users[image.id]),
        tuple(
            ImageUse(image, use.size_bytes, use.shared_bytes, users[image.id])
            for image, use in zip(here.items, found.uses(here.items), strict=True)
        ),
        tuple(
            ContainerUse(container, size, size + found.chain_bytes(container.spec.chain_id))
            for container, size in zip(made.items, own, strict=True)
        )
        if containers
        else (),
        held,
        here,
        made,
    )


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The build cache on disk."""

    records: tuple[UsageRecord, ...]
    missing: str = ""  # why nothing is known of it

    def total(self) -> Total:
        """Return it; the bytes of a record that is shared with images are theirs."""
        own = [one for one in self.records if not one.shared]
        return Total(
            len(self.records),
            sum(one.in_use for one in self.records),
            sum(one.size_bytes for one in own),
            sum(one.size_bytes for one in own if not one.in_use),
        )


async def cache_use(services: HasBuilds, deadline_s: float = _BUILDER_S) -> CacheUse:
    """See ``Engine.cache_use``."""
    try:
        async with asyncio.timeout(deadline_s):
            return CacheUse(tuple(await services.builds.usage()))
    except (TimeoutError, UnavailableError):
        return CacheUse((), "the build cache is not counted: service buildd does not answer, see `sampan status`")


async def stored_content(disk: Disk) -> tuple[StoredObject, ...]:
    """See ``Engine.stored_content``."""
    async with aclosing(disk.objects()) as pages:
        return tuple([one async for page in pages for one in page])


async def explain(services: Explaining) -> tuple[StoredObject, ...]:
    """See ``Engine.explain_disk``."""
    content, layers, runtime, listed = await asyncio.gather(
        stored_content(services.content_disk),
        stored_content(services.layer_disk),
        stored_content(services.runtime_disk),
        services.containers.list(ALL_OF_EVERYONE),
    )
    names = {container.id: container.spec.name for container in listed}

    def known(holder: Holder) -> Holder:
        if holder.kind == SNAPSHOT and holder.id in names:
            return Holder(CONTAINER, holder.id, (names[holder.id],))
        return holder

    return tuple(replace(one, holders=tuple(map(known, one.holders))) for one in (*content, *layers, *runtime))


async def engine_facts(engine: Counting, runtime: Host, layout: Layout) -> EngineFacts:
    """Return what the services say about themselves, for ``info``."""
    host, drivers, images, set_aside, problems = await asyncio.gather(
        runtime.info(),
        engine.layers.drivers(),
        engine.images.list(brief=True),
        asyncio.to_thread(read_set_aside, layout, services.ALL),
        asyncio.to_thread(lambda: [problem for name in services.ALL for problem in layout.problems(name)]),
    )
    return EngineFacts(host, drivers, len(images), layout.own.data_root, tuple(map(str, set_aside)), tuple(problems))
