"""What nothing needs any more: garbage collection on demand, and images that nothing uses."""

from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from sampan.disk import NOTHING_FREED, Collected, Freed
from sampan.docker.filters import Filters, until_ns
from sampan.engine import publish
from sampan.engine.image_filters import prunable, read_clock, read_until
from sampan.engine.parts import HasBuilds, HasEvents, HasHost, HasStores
from sampan.engine.remove import Removal, Removing, Step, finish, image_uses
from sampan.errors import UnavailableError
from sampan.resource.listing import ALL_OF_EVERYONE

if TYPE_CHECKING:
    from sampan.build.filters import PruneLimits


class PruningBuilds(HasBuilds, HasStores, HasHost, HasEvents, Protocol):
    """What keeps the build cache, and those who are told."""


class Pruning(Removing, HasStores, HasHost, Protocol):
    """What images and their content are removed from, and those who are told."""


async def collect(stores: HasStores, *, leftovers: bool) -> Collected:
    """See ``Engine.collect_garbage``. Content first: what its leases let go of need not stay unpacked either."""
    freed: dict[str, Freed] = {}
    seconds = 0.0
    for disk in (stores.content_disk, stores.layer_disk):
        passed = await disk.collect(leftovers=leftovers)
        seconds += passed.seconds
        for kind, one in passed.freed.items():
            freed[kind] = freed.get(kind, NOTHING_FREED) + one
    return Collected(freed, seconds)


@dataclass(frozen=True, slots=True)
class PrunedCache:
    """What is gone of the build cache."""

    records: tuple[str, ...]  # IDs
    reclaimed_bytes: int


async def prune_build_cache(
    services: PruningBuilds, filters: Filters, limits: "PruneLimits", *, dates: bool
) -> PrunedCache:
    """See ``Engine.prune_build_cache``."""
    from sampan.build.filters import prune_options

    if dates and filters.get("until"):
        now_ns, offset_s = await read_clock(services)
        until = until_ns(filters, now_ns, offset_s) or 0
        options = prune_options({key: values for key, values in filters.items() if key != "until"}, limits)
        options = replace(options, keep_duration_ns=max(now_ns - until, 0))
    else:
        options = prune_options(filters, limits)
    gone: list[str] = []
    reclaimed = 0
    async with aclosing(services.builds.prune(options)) as records:
        async for record in records:
            gone.append(record.id)
            reclaimed += record.size_bytes
    if not filters:  # which no filter is about
        reclaimed += (await collect(services, leftovers=True)).reclaimed_bytes
    await publish.pruned(services.events, "builder", reclaimed)
    return PrunedCache(tuple(gone), reclaimed)


@dataclass(frozen=True, slots=True)
class PrunedImages:
    """What a prune came to."""

    steps: tuple[Step, ...]  # as of ``Removal``
    reclaimed_bytes: int  # on disk: of blobs and layers


async def prune_images(services: Pruning, filters: Filters) -> PrunedImages:
    """See ``Engine.prune_images``."""
    asked = prunable(filters, await read_until(services, filters))
    images = await services.images.list()
    listed = await services.containers.list(ALL_OF_EVERYONE)
    in_use = image_uses(listed)
    used = {use.image for use in in_use}
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
        labels = {str(image.id): image.config.labels for image in images}
        total = await finish(services, await services.images.prune(doomed, in_use), labels)
    reclaimed = total.reclaimed_bytes
    with suppress(UnavailableError):  # the images are gone, and the next pass does the rest
        reclaimed += (await collect(services, leftovers=False)).reclaimed_bytes
    await publish.pruned(services.events, "image", reclaimed)
    return PrunedImages(total.steps, reclaimed)
