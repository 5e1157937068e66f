"""All images or containers at once, for answers that need to know all before they can say anything of one.

Labels and environments are as long as strangers made them, and not needed for that: a list that is larger than
``KEPT_BYTES`` comes without them. What is shown of each in the end is then read anew, page by page.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from sampan import limits
from sampan.engine.parts import ContainerLookup, HasContainers, HasImages, ImageLookup
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.container import ContainerDetails
from sampan.resource.listing import ALL, Filters, Selection

if TYPE_CHECKING:  # a list of containers need not wait for their import
    from sampan.resource.image import ImageDetails

# Thousands of images or containers, unless they are out of the ordinary.
KEPT_BYTES: Final = 8 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A list, newest first."""

    items: Sequence[T]
    complete: bool  # nothing was left out of any item


async def list_images(images: ImageLookup, *, manifests: bool = False) -> "Listed[ImageDetails]":
    """Return all images; ``manifests``: with what their indexes lead to, if the list is complete."""
    found: list[ImageDetails] = []
    size = 0
    async with aclosing(images.pages(manifests=manifests)) as pages:
        async for page in pages:
            found += page.items
            size += page.size_bytes
            if size > KEPT_BYTES:
                break
        else:
            return Listed(found, complete=True)
    return Listed(await images.list(brief=True), complete=False)


async def image_pages(
    images: ImageLookup, listed: "Listed[ImageDetails]", *, manifests: bool = False
) -> "AsyncGenerator[Sequence[ImageDetails], None]":
    """Yield all images, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(images.pages(manifests=manifests)) as pages:
        async for page in pages:
            yield page.items


async def list_containers(containers: ContainerLookup, selection: Selection = ALL) -> Listed[ContainerDetails]:
    """Return all containers; of a list that is not complete, without labels and environments."""
    found: list[ContainerDetails] = []
    size, shortened = 0, 0
    async with aclosing(containers.pages(selection)) as pages:
        async for page in pages:
            found += page
            size += sum(map(limits.size_of, page))
            if size > KEPT_BYTES:
                found[shortened:] = map(_brief, found[shortened:])
                shortened = len(found)
    return Listed(found, complete=not shortened)


def _brief(container: ContainerDetails) -> ContainerDetails:
    spec = replace(container.spec, labels={}, process=replace(container.spec.process, env=()))
    return replace(container, spec=spec)


async def container_pages(
    containers: ContainerLookup, listed: Listed[ContainerDetails]
) -> AsyncGenerator[Sequence[ContainerDetails], None]:
    """Yield all containers, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(containers.pages(ALL)) as pages:
        async for page in pages:
            yield page


class Selecting(HasImages, HasContainers, Protocol):
    """Containers, and the images that they may have been made from."""


async def select_containers(
    services: Selecting, selection: Selection, filters: Filters, *, size: bool = False
) -> AsyncGenerator[Sequence[ContainerDetails], None]:
    """Yield the containers that are asked for, some at a time, newest first, as Docker chooses them.

    Asking for the newest few, or for a state, is asking among all. ``ancestor`` names images by any of their names,
    while runtimed knows those alone that containers were made from.
    """
    among_all = selection.all or selection.limit > 0 or selection.latest or "status" in filters
    if "ancestor" in filters:
        named = filters["ancestor"]
        filters = {**filters, "ancestor": (*named, *[one async for one in _image_ids(services.images, named)])}
    async with aclosing(services.containers.pages(replace(selection, all=among_all), filters, size=size)) as pages:
        async for page in pages:
            yield page


async def _image_ids(images: ImageLookup, names: Sequence[str]) -> AsyncGenerator[str, None]:
    for name in names:
        try:
            yield (await images.get(name)).id
        except (NotFoundError, InvalidArgumentError):
            continue  # a name that is gone may still be in a container's record
