"""Where the disk has gone: by kind, as Docker counts, and byte by byte, with everyone who holds it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sampan.api.disk.v1 import disk_pb2
from sampan.api.image.v1 import images_pb2
from sampan.disk import CONTAINER, SNAPSHOT, Holder, StoredObject
from sampan.engine.listing import Listed, list_containers, list_images
from sampan.engine.sizes import sizes
from sampan.resource.container import ContainerDetails
from sampan.resource.listing import ALL
from sampan.resource.volume import Volume
from sampan.wire.channel import rpc_errors
from sampan.wire.disk import object_from_proto

if TYPE_CHECKING:
    from sampan.api.disk.v1.disk_pb2_grpc import DiskAsyncStub
    from sampan.engine.services import Services


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image's layers on disk."""

    image: images_pb2.Image
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
class DiskUse:
    """Everything, as far as it was asked for."""

    layers_bytes: int  # of images, each layer once
    needed_bytes: int  # of these, in images that containers are made from
    images: tuple[ImageUse, ...]  # newest first
    containers: tuple[ContainerUse, ...]
    volumes: tuple[Volume, ...]
    listed_images: Listed[images_pb2.Image]  # of which the uses are
    listed_containers: Listed[ContainerDetails]


async def disk_use(engine: "Services", *, images: bool, containers: bool, volumes: bool) -> DiskUse:
    """See ``Engine.disk_use``."""

    async def listed_images() -> Listed[images_pb2.Image]:
        return await list_images(engine) if images else Listed((), complete=True)

    async def listed_volumes() -> tuple[Volume, ...]:
        return await engine.runtime.volumes.list(size=True) if volumes else ()

    with rpc_errors():
        here, made, held, found = await asyncio.gather(
            listed_images(),
            list_containers(engine.runtime.containers),
            listed_volumes(),
            sizes(engine, measure=containers),
        )
    users = Counter(container.spec.image_id for container in made.items)
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


async def stored_content(engine: "Services") -> tuple[StoredObject, ...]:
    """See ``Engine.stored_content``."""
    with rpc_errors():
        return tuple(await _objects(engine.content_disk))


async def explain(engine: "Services") -> tuple[StoredObject, ...]:
    """See ``Engine.explain_disk``."""
    with rpc_errors():
        content, layers, runtime, listed = await asyncio.gather(
            _objects(engine.content_disk),
            _objects(engine.layer_disk),
            _objects(engine.runtime_disk),
            engine.runtime.containers.list(ALL),
        )
    names = {container.id: container.spec.name for container in listed}

    def known(holder: Holder) -> Holder:
        if holder.kind == SNAPSHOT and holder.id in names:
            return Holder(CONTAINER, holder.id, (names[holder.id],))
        return holder

    return tuple(replace(one, holders=tuple(map(known, one.holders))) for one in (*content, *layers, *runtime))


async def _objects(disk: "DiskAsyncStub") -> list[StoredObject]:
    found: list[StoredObject] = []
    async for page in disk.Usage(disk_pb2.UsageRequest()):
        found += map(object_from_proto, page.objects)
    return found
