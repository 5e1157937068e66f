"""Names and what happens to an image with its last one."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.engine import publish
from sampan.engine.parts import HasContainers, HasEvents, HasImages, HasLayers
from sampan.engine.transfer import wanted_platform
from sampan.errors import ConflictError, UnavailableError
from sampan.oci.digest import Digest
from sampan.oci.reference import in_one_repository, parse_reference
from sampan.resource.container import Container, Status
from sampan.resource.image import ImageDetails, RemovedImages
from sampan.resource.listing import ALL
from sampan.resource.snapshot import Unstacked

_RUNNING: Final = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


class Removing(HasImages, HasLayers, HasContainers, HasEvents, Protocol):
    """What images are removed from, and those who are told."""


async def tag_image(services: Removing, image: str, reference: str) -> None:
    """See ``Engine.tag_image``."""
    await services.images.tag(image, reference)
    tagged = await services.images.get(image)
    await publish.image(services.events, "tag", tagged.id, parse_reference(reference).with_default_tag().familiar)


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


async def remove(services: Removing, image: str, *, force: bool, no_prune: bool, platform: str = "") -> Removal:
    """See ``Engine.remove_image``."""
    found = await services.images.get(image)
    listed = await services.containers.list(ALL)
    users = [container for container in listed if container.spec.image_id == found.id]
    if not platform:
        _check_users(image, found, users, force=force)
    # By force an image goes away under containers that are stopped, and never under one that runs.
    holders = [user for user in listed if not force or user.state.status in _RUNNING]
    in_use = sorted({user.spec.image_id for user in holders if user.spec.image_id})
    removed = await services.images.remove(
        image,
        force=force,
        no_prune=no_prune,
        in_use=in_use,
        platform=wanted_platform(platform) if platform else None,
    )
    return await finish(services, removed)


async def finish(services: Removing, removed: RemovedImages) -> Removal:
    """Take down what only the removed images stood on, and tell of all of it."""
    stacks = [change.chain_ids for change in removed.changes if change.chain_ids]
    unstacked = Unstacked()
    if stacks:
        with suppress(UnavailableError):  # the images are gone, and the next pass does the rest
            unstacked = await services.layers.unstack(stacks)
    gone = set(unstacked.chain_ids)
    steps: list[Step] = []
    events: list[tuple[str, str, str]] = []
    for change in removed.changes:
        if change.untagged:
            steps.append(Step(change.untagged, untagged=True))
            events.append(("untag", change.image, change.untagged))
            continue
        steps.append(Step(change.image))
        steps += [Step(chain_id) for chain_id in reversed(change.chain_ids) if chain_id in gone]
        events.append(("delete", change.image, change.image))
    await publish.images(services.events, events)
    return Removal(tuple(steps), removed.reclaimed_bytes + unstacked.reclaimed_bytes)


def _check_users(asked: str, image: ImageDetails, users: Sequence[Container], *, force: bool) -> None:
    """Refuse, in Docker's words, to take an image away from a container.

    imaged decides what becomes of names, and of an image that has none left; it is told which images are in use, and
    not by whom. So what names a container is decided here, first, and imaged holds to ``in_use`` whatever happens
    between the two.
    """
    if not users:
        return
    short = Digest.parse(image.id).short
    if _is_id(asked, image.id):
        running = next((user for user in users if user.state.status in _RUNNING), None)
        if running is not None:
            raise ConflictError(
                f"conflict: unable to delete {short} (cannot be forced) - "
                f"image is being used by running container {running.id[:12]}"
            )
        # That it has names in several repositories outweighs this, and is for imaged to say.
        if not force and in_one_repository(map(parse_reference, (*image.repo_tags, *image.repo_digests))):
            raise ConflictError(
                f"conflict: unable to delete {short} (must be forced) - "
                f"image is being used by stopped container {users[0].id[:12]}"
            )
    elif len(image.repo_tags) <= 1 and not force:
        raise ConflictError(
            f'conflict: unable to remove repository reference "{asked}" (must force) - '
            f"container {users[0].id[:12]} is using its referenced image {short}"
        )


def _is_id(asked: str, image_id: str) -> bool:
    return bool(asked) and image_id.startswith((asked, f"sha256:{asked}"))
