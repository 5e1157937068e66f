"""The engine's sequences, over real gRPC against services that behave."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.errors import ConflictError, DataLossError, NotFoundError, UnavailableError
from sampan.resource.container import Created
from sampan.resource.container_spec import ContainerSpec, Process
from tests.fakes.services import Services, running_services


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(tmp_path, "base", "middle", "top") as running:
        yield running


async def pull(services: Services, reference: str = "docker.io/library/web:1") -> list[Progress]:
    return [event async for event in services.engine.pull(reference)]


async def test_a_pull_unpacks_every_layer_and_names_the_image_last(services: Services) -> None:
    events = await pull(services)
    assert isinstance(events[0], Resolved)
    assert isinstance(events[-1], Done)
    ended = [event.digest for event in events if isinstance(event, LayerProgress) and event.phase is Phase.COMPLETE]
    assert sorted(ended) == sorted(events[0].layers)
    assert len(services.layers.chains) == 3
    assert list(services.images.names) == ["docker.io/library/web:1"]
    assert services.events.published == [("pull", "web:1")]


async def test_a_second_pull_finds_the_layers_there(services: Services) -> None:
    await pull(services)
    events = await pull(services)
    phases = {event.phase for event in events if isinstance(event, LayerProgress)}
    assert Phase.EXISTS in phases
    assert Phase.EXTRACTING not in phases
    done = events[-1]
    assert isinstance(done, Done)
    assert done.existed


async def test_a_layer_that_is_in_an_image_twice_is_applied_once(tmp_path: Path) -> None:
    async with running_services(tmp_path, "same", "other", "same") as services:
        events = await pull(services)
        complete = [e for e in events if isinstance(e, LayerProgress) and e.phase is Phase.COMPLETE]
        assert len(complete) == 2
        assert len(services.layers.chains) == 3


async def test_a_corrupt_layer_leaves_no_name_and_no_lease(services: Services) -> None:
    services.layers.corrupt.add(services.images.layers[1].diff_id)
    with pytest.raises(DataLossError, match="corrupt"):
        await pull(services)
    assert not services.images.names
    assert not services.images.leases


async def test_what_the_registry_refuses_is_raised_as_it_was(services: Services) -> None:
    with pytest.raises(NotFoundError, match="manifest unknown"):
        await pull(services, "docker.io/library/missing:1")


async def test_a_failing_layer_cancels_the_others(services: Services) -> None:
    base, middle, _ = (layer.diff_id for layer in services.images.layers)
    services.layers.stuck.add(base)
    services.layers.corrupt.add(middle)
    with pytest.raises(DataLossError):
        await pull(services)
    async with asyncio.timeout(10):
        while base not in services.layers.cancelled:  # which the other side hears of a moment later
            services.layers.ended.clear()
            await services.layers.ended.wait()


async def test_a_pull_whose_service_was_killed_leaves_its_lease_to_the_next_one(services: Services) -> None:
    services.layers.down = True
    with pytest.raises(UnavailableError):
        await pull(services)
    assert services.images.abandoned == services.images.leases != set()


async def test_a_pull_that_is_refused_leaves_no_lease(services: Services) -> None:
    services.layers.corrupt.add(services.images.layers[0].diff_id)
    with pytest.raises(DataLossError):
        await pull(services)
    assert services.images.leases == services.images.abandoned == set()


async def test_leaving_a_pull_cancels_it_and_leaves_what_it_brought_to_the_next_one(services: Services) -> None:
    services.layers.stuck.add(services.images.layers[2].diff_id)
    events = services.engine.pull("docker.io/library/web:1")
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, LayerProgress) and event.phase is Phase.EXTRACTING:
                break
        await events.aclose()
    assert services.images.leases
    assert not services.images.names


async def test_a_container_is_created_on_the_image_s_chain(services: Services) -> None:
    await pull(services)
    spec = ContainerSpec(image="web:1", process=Process(cmd=("sh",)))
    assert await services.engine.create_container(spec) == Created("c" * 64, ("careful",))
    assert services.containers.containers[0].spec.chain_id in services.layers.chains


async def test_layers_that_were_lost_are_unpacked_again_before_a_create(services: Services) -> None:
    await pull(services)
    services.layers.stored.clear()
    await services.engine.create_container(ContainerSpec(image="web:1", process=Process(cmd=("sh",))))
    assert len(services.layers.stored) == 3


async def test_an_image_for_another_platform_is_refused(services: Services) -> None:
    await pull(services)
    spec = ContainerSpec(image="web:1", process=Process(cmd=("sh",)))
    with pytest.raises(NotFoundError, match="linux/s390x"):
        await services.engine.create_container(spec, platform="linux/s390x")


async def test_removing_the_last_name_removes_image_and_snapshots(services: Services) -> None:
    await pull(services)
    chain = sorted(services.layers.chains)
    steps = await services.engine.remove_image("web:1")
    assert (steps[0].name, steps[0].untagged) == ("web:1", True)
    assert (steps[1].name, len(steps)) == (services.images.image().id, 5)
    assert sorted(step.name for step in steps[2:]) == chain
    assert not services.layers.chains
    assert [action for action, _ in services.events.published] == ["pull", "untag", "delete"]


async def test_image_that_is_gone_is_told_of_though_its_layers_have_to_wait_for_a_pass(services: Services) -> None:
    await pull(services)
    services.layers.down = True
    steps = await services.engine.remove_image("web:1")
    assert [step.name for step in steps] == ["web:1", services.images.image().id]
    assert services.layers.chains
    assert [action for action, _ in services.events.published] == ["pull", "untag", "delete"]


@pytest.mark.parametrize(
    ("asked", "status", "force", "message"),
    [
        ("web:1", containers_pb2.ContainerState.EXITED, False, 'unable to remove repository reference "web:1"'),
        ("id", containers_pb2.ContainerState.EXITED, False, r"must be forced.*stopped container cccccccccccc"),
        ("id", containers_pb2.ContainerState.RUNNING, True, r"cannot be forced.*running container cccccccccccc"),
    ],
)
async def test_an_image_that_a_container_uses_is_not_taken_away(
    services: Services, asked: str, status: containers_pb2.ContainerState.Status.ValueType, force: bool, message: str
) -> None:
    await pull(services)
    image_id = services.images.image().id
    container = containers_pb2.Container(id="c" * 64, spec=spec_pb2.ContainerSpec(image_id=image_id))
    container.state.status = status
    services.containers.containers.append(container)
    with pytest.raises(ConflictError, match=message):
        await services.engine.remove_image(image_id if asked == "id" else asked, force=force)
    assert services.images.names
