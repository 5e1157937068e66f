"""A create whose stack is taken away between the question for it and its use."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from sampan.api.containerd.snapshots.v1 import snapshots_pb2
from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine.create import create_container
from sampan.engine.engine import Engine
from sampan.errors import NotFoundError
from sampan.resource.container import Created
from sampan.resource.container_spec import ContainerSpec


class Services:
    """Stands for an engine's clients; ``before_create`` happens between Stack and Create."""

    def __init__(self, before_create: "Callable[[Services], None]") -> None:
        self.images = self.layers = self.runtime = self.containers = self.snapshots = self
        self.here = True
        self.stacked = False
        self.creates = 0
        self.before_create = before_create
        self.missing = ""

    async def Get(self, request: images_pb2.GetRequest) -> images_pb2.Image:
        if not self.here:
            raise NotFoundError(f"No such image: {request.image}")
        return images_pb2.Image(id="sha256:1", config=images_pb2.ImageConfig(cmd=["sh"]))

    async def Stack(self, request: layers_pb2.StackRequest) -> layers_pb2.StackResponse:
        self.stacked = True
        return layers_pb2.StackResponse(chain_id="chain")

    async def Stat(self, request: snapshots_pb2.StatSnapshotRequest) -> snapshots_pb2.StatSnapshotResponse:
        if not self.stacked:
            raise NotFoundError("snapshot 'chain' does not exist")
        return snapshots_pb2.StatSnapshotResponse()

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
    created = await create_container(cast("Engine", cast("Any", services)), ContainerSpec(image="web:1"), "")
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
