"""Bring in the images of an archive: read, unpack, name last."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from sampan.api.image.v1 import images_pb2
from sampan.engine import publish
from sampan.engine.feed import Feed
from sampan.engine.leases import kept
from sampan.engine.progress import Loaded, Progress
from sampan.engine.pull import Report, Unpacking, wanted_platform, watched
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:
    from sampan.engine.services import Services


async def load(engine: "Services", chunks: AsyncIterator[bytes], platform: str) -> AsyncGenerator[Progress, None]:
    """See ``Engine.load_images``."""
    feed = Feed(chunks)
    options = images_pb2.LoadRequest.Options(platform=wanted_platform(platform) if platform else None)

    async def requests() -> AsyncIterator[images_pb2.LoadRequest]:
        yield images_pb2.LoadRequest(options=options)
        async for chunk in feed:
            yield images_pb2.LoadRequest(chunk=chunk)

    async def work(report: Report) -> None:
        with feed.told(), rpc_errors():
            images = (await whole(engine.images.Load(requests()))).images
        async with kept(engine, *(image.lease for image in images)):
            await _unpack(engine, report, list(images))
            for image in images:
                await _name(engine, image)
                names = tuple(parse_reference(text).familiar for text in image.references)
                await publish.image(
                    engine.runtime.events, "load", image.image_id, names[0] if names else image.image_id
                )
                await report(Loaded(image.image_id, names))

    async with aclosing(watched(work)) as events:
        async for event in events:
            yield event


async def _unpack(engine: "Services", report: Report, images: list[images_pb2.LoadedImage]) -> None:
    """Unpack all layers, each once, before anything gets a name."""
    unpacking = Unpacking(engine, report)
    layers = {layer.diff_id: layer for image in images for layer in image.layers}
    async with asyncio.TaskGroup() as tasks:
        for layer in layers.values():
            tasks.create_task(unpacking.apply(layer), name=f"apply {layer.diff_id}")
    for image in images:
        await unpacking.stack(image.layers)


async def _name(engine: "Services", image: images_pb2.LoadedImage) -> None:
    first, *others = image.references or [""]
    request = images_pb2.CreateRequest(reference=first, target=image.target, lease=image.lease, platform=image.platform)
    with rpc_errors():
        await engine.images.Create(request)
        for reference in others:
            await engine.images.Tag(images_pb2.TagRequest(image=image.image_id, reference=reference))
