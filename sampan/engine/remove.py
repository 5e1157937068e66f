"""Names and what happens to an image with its last one."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sampan.engine import publish
from sampan.engine.image_filters import of_platform
from sampan.engine.parts import HasContainers, HasEvents, HasImages, HasLayers
from sampan.engine.transfer import wanted_platform
from sampan.errors import UnavailableError
from sampan.oci.reference import parse_reference
from sampan.resource.container import ALIVE, Container
from sampan.resource.image import ImageUse, RemovedImages
from sampan.resource.listing import ALL_OF_EVERYONE
from sampan.resource.snapshot import Unstacked


class Removing(HasImages, HasLayers, HasContainers, HasEvents, Protocol):
    """What images are removed from, and those who are told."""


async def tag_image(services: Removing, image: str, reference: str) -> None:
    """See ``Engine.tag_image``."""
    await services.images.tag(image, reference)
    tagged = await services.images.get(image)
    name = parse_reference(reference).with_default_tag().familiar
    await publish.image(services.events, "tag", tagged.id, name, tagged.config.labels)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of what a removal did."""

    name: str  # what was untagged, or the ID of an image or of a layer's chain
    untagged: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal came to."""

    steps: tuple[Step, ...] = ()  # in Docker's order: an image's names, the image, its layers from the top down
    reclaimed_bytes: int = 0  # on disk: of blobs and layers


async def remove(
    services: Removing, image: str, *, force: bool, no_prune: bool, platforms: Sequence[str] = ()
) -> Removal:
    """See ``Engine.remove_image``."""
    in_use = image_uses(await services.containers.list(ALL_OF_EVERYONE))
    if len(platforms) > 1:
        for platform in platforms:  # all of them, or none
            await of_platform(services.images, image, platform)
    steps: list[Step] = []
    reclaimed_bytes = 0
    for wanted in dict.fromkeys(map(wanted_platform, platforms)) or (None,):
        removed = await services.images.remove(image, force=force, no_prune=no_prune, in_use=in_use, platform=wanted)
        labels = {str(change.image): change.labels for change in removed.changes if change.untagged}
        done = await finish(services, removed, labels)
        steps += done.steps
        reclaimed_bytes += done.reclaimed_bytes
    return Removal(tuple(steps), reclaimed_bytes)


async def finish(services: Removing, removed: RemovedImages, labels: Mapping[str, Mapping[str, str]]) -> Removal:
    """Take down what only the removed images stood on, and tell of all of it; ``labels`` are those of images by ID."""
    events = [
        ("untag", change.image, change.untagged) if change.untagged else ("delete", change.image, change.image)
        for change in removed.changes
    ]
    # Meanwhile, and in any case: what happened to the images has happened, whatever becomes of their layers.
    telling = asyncio.create_task(publish.images(services.events, events, labels), name="events of removed images")
    try:
        unstacked = await _take_down(services, removed)
    finally:
        await telling
    gone = set(unstacked.chain_ids)
    steps: list[Step] = []
    for change in removed.changes:
        if change.untagged:
            steps.append(Step(change.untagged, untagged=True))
            continue
        steps.append(Step(change.image))
        steps += [Step(chain_id) for chain_id in reversed(change.chain_ids) if chain_id in gone]
    return Removal(tuple(steps), removed.reclaimed_bytes + unstacked.reclaimed_bytes)


async def _take_down(services: Removing, removed: RemovedImages) -> Unstacked:
    stacks = [change.chain_ids for change in removed.changes if change.chain_ids]
    if stacks:
        with suppress(UnavailableError):  # the images are gone, and the next pass does the rest
            return await services.layers.unstack(stacks)
    return Unstacked()


def image_uses(containers: Iterable[Container]) -> tuple[ImageUse, ...]:
    """Return the images that ``containers`` are made of or mount, each once: imaged knows no containers."""
    uses: dict[str, ImageUse] = {}
    for container in containers:
        running = container.state.status in ALIVE
        for image in (container.spec.image_id, *(mount.image_id for mount in container.spec.mounts)):
            if image and (image not in uses or (running and not uses[image].running)):
                uses[image] = ImageUse(image, container.id, running)
    return tuple(uses.values())
