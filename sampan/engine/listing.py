"""All images or containers at once, for answers that need to know all before they can say anything of one.

Labels and environments are as long as strangers made them, and not needed for that: a list that is larger than
``KEPT_BYTES`` comes without them. What is shown of each in the end is then read anew, page by page.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sampan import limits
from sampan.api.image.v1 import images_pb2
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.container import ContainerDetails
from sampan.resource.listing import ALL, Filters, Selection
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import page_by_page, whole

if TYPE_CHECKING:
    from sampan.engine.services import Services
    from sampan.resource.protocols import Containers

# Thousands of images or containers, unless they are out of the ordinary.
KEPT_BYTES: Final = 8 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A list, newest first."""

    items: Sequence[T]
    complete: bool  # nothing was left out of any item


async def list_images(engine: "Services", *, manifests: bool = False) -> Listed[images_pb2.Image]:
    """Return all images; ``manifests``: with what their indexes lead to, if the list is complete."""
    found: list[images_pb2.Image] = []
    size = 0
    async with aclosing(_image_pages(engine, manifests=manifests)) as pages:
        async for page in pages:
            found += page
            size += sum(map(images_pb2.Image.ByteSize, page))
            if size > KEPT_BYTES:
                break
        else:
            return Listed(found, complete=True)
    with rpc_errors():
        brief = await whole(engine.images.List(images_pb2.ListRequest(brief=True)))
    return Listed(brief.images, complete=False)


async def image_pages(
    engine: "Services", listed: Listed[images_pb2.Image], *, manifests: bool = False
) -> AsyncGenerator[Sequence[images_pb2.Image], None]:
    """Yield all images, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(_image_pages(engine, manifests=manifests)) as pages:
        async for page in pages:
            yield page


async def _image_pages(engine: "Services", *, manifests: bool) -> AsyncGenerator[Sequence[images_pb2.Image], None]:
    async with aclosing(page_by_page(engine.images.List(images_pb2.ListRequest(manifests=manifests)))) as pages:
        async for page in pages:
            yield page.images


async def list_containers(containers: "Containers") -> Listed[ContainerDetails]:
    """Return all containers; of a list that is not complete, without labels and environments."""
    found: list[ContainerDetails] = []
    size, shortened = 0, 0
    async with aclosing(containers.pages(ALL)) as pages:
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
    containers: "Containers", listed: Listed[ContainerDetails]
) -> AsyncGenerator[Sequence[ContainerDetails], None]:
    """Yield all containers, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(containers.pages(ALL)) as pages:
        async for page in pages:
            yield page


async def select_containers(
    engine: "Services", selection: Selection, filters: Filters, *, size: bool = False
) -> AsyncGenerator[Sequence[ContainerDetails], None]:
    """Yield the containers that are asked for, some at a time, newest first, as Docker chooses them.

    Asking for the newest few, or for a state, is asking among all. ``ancestor`` names images by any of their names,
    while runtimed knows those alone that containers were made from.
    """
    among_all = selection.all or selection.limit > 0 or selection.latest or "status" in filters
    if "ancestor" in filters:
        named = filters["ancestor"]
        filters = {**filters, "ancestor": (*named, *[one async for one in _image_ids(engine, named)])}
    async with aclosing(
        engine.runtime.containers.pages(replace(selection, all=among_all), filters, size=size)
    ) as pages:
        async for page in pages:
            yield page


async def _image_ids(engine: "Services", names: Sequence[str]) -> AsyncGenerator[str, None]:
    for name in names:
        try:
            with rpc_errors():
                yield (await engine.images.Get(images_pb2.GetRequest(image=name))).id
        except (NotFoundError, InvalidArgumentError):
            continue  # a name that is gone may still be in a container's record
