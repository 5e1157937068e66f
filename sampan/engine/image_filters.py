"""Which images are meant: by the filters of a list or a prune, and by what others say of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sampan.docker.filters import Filters, check_known, label_test, truth, until_ns
from sampan.docker.times import to_ns
from sampan.engine.listing import list_containers
from sampan.engine.parts import HasHost, ImageLookup
from sampan.errors import NotFoundError
from sampan.oci.platform import parse_platform
from sampan.oci.reference import parse_reference
from sampan.pattern import Pattern, glob
from sampan.resource.image import ImageDetails

if TYPE_CHECKING:  # who asks for images need not wait for its import
    from sampan.engine.parts import ContainerLookup

LISTED: Final = ("dangling", "label", "label!", "before", "since", "reference", "until")
PRUNED: Final = ("dangling", "label", "label!", "until")


def hidden(images: Sequence[ImageDetails], filters: Filters, *, everything: bool) -> frozenset[str]:
    """Return the IDs of those that a list of ``images``, which are all that are here, leaves out.

    They are steps on the way to another image and have no name. A list with filters, or of ``everything``, has them.
    """
    if filters or everything:
        return frozenset()
    parents = {image.parent for image in images if image.parent}
    return frozenset(one.id for one in images if one.id in parents and not (one.repo_tags or one.repo_digests))


async def read_until(services: HasHost, filters: Filters) -> int | None:
    """Return the moment that ``until`` names, in nanoseconds since 1970; None if it is not given.

    The engine's clock says from when durations count, and its zone is that of dates without one, whoever asks from
    wherever: runtimed reads this filter likewise when it is about containers and networks.

    Raises:
        InvalidArgumentError: it is no moment, or there are several.
        UnavailableError: runtimed does not answer.
    """
    if not filters.get("until"):
        return None
    return until_ns(filters, *await read_clock(services))


async def read_clock(services: HasHost) -> tuple[int, int]:
    """Return the engine's time, in nanoseconds since 1970, and how far its zone is ahead of UTC, in seconds.

    Raises:
        UnavailableError: runtimed does not answer.
    """
    told = datetime.fromisoformat((await services.host.info()).system_time)
    return to_ns(told), int((told.utcoffset() or timedelta()).total_seconds())


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a prune is about."""

    dangling: bool  # only images without a tag
    wanted: Callable[[ImageDetails], bool]


def choose(
    images: Sequence[ImageDetails],
    filters: Filters,
    until: int | None = None,
    everything: Sequence[ImageDetails] | None = None,
) -> list[ImageDetails]:
    """Return the images that pass every filter; of a filter's values one is enough, of labels all are needed.

    With ``reference`` an image comes with only those of its names that match. ``until`` is the moment that the filter
    of this name stands for, as ``read_until`` says. If ``images`` are a part of all that are here, ``everything`` is
    where ``before`` and ``since`` look their names up.

    Raises:
        InvalidArgumentError: an unknown filter or a bad value.
        NotFoundError: ``before`` or ``since`` names no image.
    """
    check_known(filters, LISTED)
    if everything is None:
        everything = images
    labelled = label_test(filters)
    chosen = [image for image in images if labelled(image.config.labels)]
    if (wanted := truth(filters, "dangling")) is not None:
        chosen = [image for image in chosen if bool(image.repo_tags) is not wanted]
    for name in filters.get("before", ()):
        limit = created_ns(_find(everything, name))
        chosen = [image for image in chosen if created_ns(image) < limit]
    for name in filters.get("since", ()):
        limit = created_ns(_find(everything, name))
        chosen = [image for image in chosen if created_ns(image) > limit]
    if until is not None:
        chosen = [image for image in chosen if created_ns(image) <= until]
    if "reference" in filters:
        patterns = [glob(pattern) for pattern in filters["reference"]]
        chosen = [matched for image in chosen if (matched := _matching(image, patterns)) is not None]
    return chosen


def prunable(filters: Filters, limit: int | None) -> Prunable:
    """Return what a prune with these filters may remove, if nothing uses it; ``limit`` is the moment of ``until``.

    Raises:
        InvalidArgumentError: an unknown filter or a bad value.
    """
    check_known(filters, PRUNED)
    dangling, labelled = truth(filters, "dangling"), label_test(filters)

    def wanted(image: ImageDetails) -> bool:
        return labelled(image.config.labels) and (limit is None or created_ns(image) <= limit)

    return Prunable(dangling is not False, wanted)


def created_ns(image: ImageDetails) -> int:
    """Return when an image was made, in nanoseconds since the epoch; 0 if it does not say."""
    return image.created_ns or 0


def _find(images: Iterable[ImageDetails], name: str) -> ImageDetails:
    """Find by ID, prefix of an ID, or name."""
    for image in images:
        if name and image.id.startswith((name, f"sha256:{name}")):
            return image
    wanted = parse_reference(name).with_default_tag().familiar
    for image in images:
        if wanted in image.repo_tags or wanted in image.repo_digests:
            return image
    raise NotFoundError(f"No such image: {wanted}")


def _matching(image: ImageDetails, patterns: Sequence[Pattern]) -> ImageDetails | None:
    """Return the image with only those names that match, or None if none does."""
    tags = tuple(name for name in image.repo_tags if _matches(name, patterns))
    digests = tuple(name for name in image.repo_digests if _matches(name, patterns))
    if not tags and not digests:
        return None
    return replace(image, repo_tags=tags, repo_digests=digests)


def _matches(name: str, patterns: Sequence[Pattern]) -> bool:
    """A pattern is that of a shell; ``*`` stops at a slash, and the tag may be left out."""
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    return any(pattern.matches(candidate) for pattern in patterns for candidate in (name, repository))


async def of_platform(images: ImageLookup, name: str, platform: str) -> ImageDetails:
    """Return the image ``name`` or, of its index, the one that is for ``platform``, ``os/architecture[/variant]``.

    Raises:
        NotFoundError: no such image, or nothing of that platform is here; in Docker's words.
        InvalidArgumentError: that is no platform.
    """
    return await images.get(name, platform=parse_platform(platform))


async def ancestors(images: ImageLookup, image: ImageDetails) -> list[ImageDetails]:
    """Return the images that one was committed from, nearest first, as far as they are here."""
    here: dict[str, ImageDetails] = {each.id: each for each in await images.list(brief=True)}
    found: list[ImageDetails] = []
    while (parent := here.pop(image.parent, None)) is not None:
        found.append(parent)
        image = parent
    return found


async def users_by_image(containers: "ContainerLookup") -> dict[str, list[str]]:
    """Return the IDs of the containers that were made from each image, by its ID."""
    found: dict[str, list[str]] = {}
    for container in (await list_containers(containers)).items:
        found.setdefault(container.spec.image_id, []).append(container.id)
    return found
