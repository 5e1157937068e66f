"""All images or containers at once, for answers that need to know all before they can say anything of one.

Labels and environments are as long as strangers made them, and not needed for that: a list that is larger than
``KEPT_BYTES`` comes without them. What is shown of each in the end is then read anew, page by page.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import page_by_page, whole

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

# Thousands of images or containers, unless they are out of the ordinary.
KEPT_BYTES: Final = 8 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A list, newest first."""

    items: Sequence[T]
    complete: bool  # nothing was left out of any item


async def list_images(engine: "Engine", *, manifests: bool = False) -> Listed[images_pb2.Image]:
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
    engine: "Engine", listed: Listed[images_pb2.Image], *, manifests: bool = False
) -> AsyncGenerator[Sequence[images_pb2.Image], None]:
    """Yield all images, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(_image_pages(engine, manifests=manifests)) as pages:
        async for page in pages:
            yield page


async def _image_pages(engine: "Engine", *, manifests: bool) -> AsyncGenerator[Sequence[images_pb2.Image], None]:
    async with aclosing(page_by_page(engine.images.List(images_pb2.ListRequest(manifests=manifests)))) as pages:
        async for page in pages:
            yield page.images


async def list_containers(engine: "Engine") -> Listed[containers_pb2.Container]:
    """Return all containers; of a list that is not complete, without labels and environments."""
    found: list[containers_pb2.Container] = []
    size, shortened = 0, 0
    async with aclosing(_container_pages(engine)) as pages:
        async for page in pages:
            found += page
            size += sum(map(containers_pb2.Container.ByteSize, page))
            if size > KEPT_BYTES:
                for container in found[shortened:]:
                    container.spec.ClearField("labels")
                    container.spec.process.ClearField("env")
                shortened = len(found)
    return Listed(found, complete=not shortened)


async def container_pages(
    engine: "Engine", listed: Listed[containers_pb2.Container]
) -> AsyncGenerator[Sequence[containers_pb2.Container], None]:
    """Yield all containers, some at a time, with nothing left out, now that ``listed`` is known."""
    if listed.complete:
        yield listed.items
        return
    async with aclosing(_container_pages(engine)) as pages:
        async for page in pages:
            yield page


async def _container_pages(engine: "Engine") -> AsyncGenerator[Sequence[containers_pb2.Container], None]:
    request = containers_pb2.ListContainersRequest(all=True)
    async with aclosing(page_by_page(engine.containers.List(request))) as pages:
        async for page in pages:
            yield page.containers
