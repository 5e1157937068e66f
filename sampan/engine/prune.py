"""Remove the images that nothing uses."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.api.image.v1 import images_pb2
from sampan.docker.filters import Filters
from sampan.engine import gc, publish
from sampan.engine.image_filters import prunable
from sampan.engine.remove import Removal, Step, finish
from sampan.errors import UnavailableError
from sampan.resource.listing import ALL
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import pages, send, whole

if TYPE_CHECKING:
    from sampan.engine.services import Services


@dataclass(frozen=True, slots=True)
class PrunedImages:
    """What a prune came to."""

    steps: tuple[Step, ...]  # as of ``Removal``
    reclaimed_bytes: int  # on disk: of blobs and layers


async def prune_images(engine: "Services", filters: Filters) -> PrunedImages:
    """See ``Engine.prune_images``."""
    asked = prunable(filters, time.time_ns())
    with rpc_errors():
        images = (await whole(engine.images.List(images_pb2.ListRequest()))).images
        listed = await engine.runtime.containers.list(ALL)
    used = {container.spec.image_id for container in listed}
    parents = {image.parent for image in images if image.parent}
    doomed: list[str] = []
    for image in images:
        names = (*image.repo_tags, *image.repo_digests)
        if image.id in used or (asked.dangling and image.repo_tags) or not asked.wanted(image):
            continue
        if not names and image.id in parents:
            continue  # it goes with the last image that was made from it
        doomed += names or (image.id,)
    total = Removal()
    if doomed:
        with rpc_errors():
            removed = await whole(engine.images.Prune(send(_requests(doomed, used))))
        total = await finish(engine, removed)
    reclaimed = total.reclaimed_bytes
    with suppress(UnavailableError):  # the images are gone, and the next pass does the rest
        reclaimed += (await gc.collect(engine, leftovers=False)).reclaimed_bytes
    await publish.pruned(engine.runtime.events, "image", reclaimed)
    return PrunedImages(total.steps, reclaimed)


def _requests(doomed: Iterable[str], used: Iterable[str]) -> Iterator[images_pb2.PruneRequest]:
    yield from pages(images_pb2.PruneRequest, "in_use", sorted(used))
    yield from pages(images_pb2.PruneRequest, "images", doomed)
