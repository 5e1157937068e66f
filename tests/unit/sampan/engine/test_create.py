"""A create whose stack is taken away between the question for it and its use."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from sampan.engine.create import Creating, create_container
from sampan.errors import NotFoundError
from sampan.resource.container import Created
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.image import ImageDetails
from tests.fakes.image_values import image_value


class Services:
    """Stands for an engine's clients; ``before_create`` happens between Stack and Create."""

    def __init__(self, before_create: "Callable[[Services], None]") -> None:
        self.images = self.layers = self.runtime = self.containers = self.snapshots = self
        self.here = True
        self.stacked = False
        self.creates = 0
        self.before_create = before_create
        self.missing = ""

    async def get(self, image: str) -> ImageDetails:
        if not self.here:
            raise NotFoundError(f"No such image: {image}")
        return image_value(cmd=("sh",))

    async def stack(self, diff_ids: Sequence[str]) -> str:
        del diff_ids
        self.stacked = True
        return "chain"

    async def stat(self, key: str) -> None:
        if not self.stacked:
            raise NotFoundError(f"snapshot {key!r} does not exist")

    async def create(self, spec: ContainerSpec) -> Created:
        self.creates += 1
        if self.creates == 1:
            self.before_create(self)
        if self.missing:
            raise NotFoundError(self.missing)
        if not self.stacked:
            raise NotFoundError("parent snapshot 'chain' does not exist")
        return Created("made")


async def create(services: Services) -> str:
    created = await create_container(cast("Creating", cast("Any", services)), ContainerSpec(image="web:1"), "")
    return created.id


async def test_it_is_made_on_a_new_stack_while_the_image_is_there() -> None:
    services = Services(lambda services: setattr(services, "stacked", False))
    assert await create(services) == "made"
    assert services.creates == 2


async def test_it_finds_no_image_if_that_has_gone() -> None:
    def remove(services: Services) -> None:
        services.stacked = services.here = False

    with pytest.raises(NotFoundError, match="No such image: web:1"):
        await create(Services(remove))


async def test_what_else_is_missing_is_said_at_once() -> None:
    services = Services(lambda services: setattr(services, "missing", "network nowhere not found"))
    with pytest.raises(NotFoundError, match="network nowhere not found"):
        await create(services)
    assert services.creates == 1
