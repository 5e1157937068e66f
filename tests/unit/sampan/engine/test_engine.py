"""The engine's sequences, over real gRPC against services that behave."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.check import Finding
from sampan.engine.check import Options, Repaired, lost_layers
from sampan.engine.engine import Engine
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.errors import ConflictError, DataLossError, NotFoundError, UnavailableError
from sampan.layout import Layout
from sampan.oci.digest import Digest
from sampan.resource.container_spec import ContainerSpec, Process
from sampan.resource.transfer import Pushed
from tests.fakes.engine import FakeEngine, fake_engine, image, layers_of
from tests.fakes.engine_containers import State

WEB = image("web:1", layers=layers_of("base", "middle", "top"))
BASE, MIDDLE, TOP = (layer.diff_id for layer in WEB.layers)


@dataclass(frozen=True, slots=True)
class Connected:
    """Services, and an engine that is connected to them."""

    fake: FakeEngine
    engine: Engine

    def published(self) -> list[tuple[str, str]]:
        return [(event.action, event.attributes["name"]) for event in self.fake.runtime.events.published]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Connected]:
    layout = Layout(tmp_path / "d", tmp_path / "r")
    async with fake_engine(layout) as fake, Engine.connect(layout) as engine:
        fake.images.remote["web:1"] = copy.deepcopy(WEB)
        yield Connected(fake, engine)


async def pull(services: Connected, reference: str = "docker.io/library/web:1") -> list[Progress]:
    return [event async for event in services.engine.pull(reference)]


async def test_a_pull_unpacks_every_layer_and_names_the_image_last(services: Connected) -> None:
    events = await pull(services)
    assert isinstance(events[0], Resolved)
    assert isinstance(events[-1], Done)
    ended = [event.digest for event in events if isinstance(event, LayerProgress) and event.phase is Phase.COMPLETE]
    assert sorted(ended) == sorted(events[0].layers)
    assert len(services.fake.layers.chains) == 3
    assert list(services.fake.images.images) == [WEB.id]
    (told,) = services.fake.runtime.events.published
    assert (told.action, told.actor_id, told.attributes) == ("pull", "web:1", {"name": "web"})  # no ID, as Docker


async def test_a_second_pull_finds_the_layers_there(services: Connected) -> None:
    await pull(services)
    events = await pull(services)
    phases = {event.phase for event in events if isinstance(event, LayerProgress)}
    assert Phase.EXISTS in phases
    assert Phase.EXTRACTING not in phases
    done = events[-1]
    assert isinstance(done, Done)
    assert done.existed


async def test_a_layer_that_is_in_an_image_twice_is_applied_once(services: Connected) -> None:
    services.fake.images.remote["web:2"] = image("web:2", layers=layers_of("same", "other", "same"))
    events = await pull(services, "docker.io/library/web:2")
    complete = [e for e in events if isinstance(e, LayerProgress) and e.phase is Phase.COMPLETE]
    assert len(complete) == 2
    assert len(services.fake.layers.chains) == 3


async def test_a_corrupt_layer_leaves_no_name_and_no_lease(services: Connected) -> None:
    services.fake.layers.corrupt.add(MIDDLE)
    with pytest.raises(DataLossError, match="corrupt"):
        await pull(services)
    assert not services.fake.images.images
    assert not services.fake.images.leases


async def test_what_the_registry_refuses_is_raised_as_it_was(services: Connected) -> None:
    services.fake.images.refuse = NotFoundError("manifest unknown")
    with pytest.raises(NotFoundError, match="manifest unknown"):
        await pull(services)


async def test_a_failing_layer_cancels_the_others(services: Connected) -> None:
    services.fake.layers.stuck.add(BASE)
    services.fake.layers.corrupt.add(MIDDLE)
    with pytest.raises(DataLossError):
        await pull(services)
    async with asyncio.timeout(60):
        while BASE not in services.fake.layers.cancelled:  # which the other side hears of a moment later
            services.fake.layers.ended.clear()
            await services.fake.layers.ended.wait()


async def test_a_pull_whose_service_was_killed_leaves_its_lease_to_the_next_one(services: Connected) -> None:
    services.fake.layers.down = True
    with pytest.raises(UnavailableError):
        await pull(services)
    assert services.fake.images.abandoned == services.fake.images.leases != set()


async def test_a_pull_that_is_refused_leaves_no_lease(services: Connected) -> None:
    services.fake.layers.corrupt.add(BASE)
    with pytest.raises(DataLossError):
        await pull(services)
    assert services.fake.images.leases == services.fake.images.abandoned == set()


async def test_leaving_a_pull_cancels_it_and_leaves_what_it_brought_to_the_next_one(services: Connected) -> None:
    services.fake.layers.stuck.add(TOP)
    events = services.engine.pull("docker.io/library/web:1")
    async with asyncio.timeout(60):
        async for event in events:
            if isinstance(event, LayerProgress) and event.phase is Phase.EXTRACTING:
                break
        await events.aclose()
    assert services.fake.images.leases
    assert not services.fake.images.images


async def test_a_container_is_created_on_the_image_s_chain(services: Connected) -> None:
    await pull(services)
    spec = ContainerSpec(image="web:1", process=Process(cmd=("sh",)))
    services.fake.runtime.containers.warns = ["careful"]
    created = await services.engine.create_container(spec)
    assert created.warnings == ("careful",)
    assert services.fake.runtime.containers.find(created.id).record.spec.chain_id in services.fake.layers.chains


async def test_layers_that_were_lost_are_unpacked_again_before_a_create(services: Connected) -> None:
    await pull(services)
    services.fake.layers.applied.clear()
    await services.engine.create_container(ContainerSpec(image="web:1", process=Process(cmd=("sh",))))
    assert len(services.fake.layers.applied) == 3


async def test_an_image_for_another_platform_is_refused(services: Connected) -> None:
    await pull(services)
    spec = ContainerSpec(image="web:1", process=Process(cmd=("sh",)))
    with pytest.raises(NotFoundError, match="linux/s390x"):
        await services.engine.create_container(spec, platform="linux/s390x")


async def test_removing_the_last_name_removes_image_and_snapshots(services: Connected) -> None:
    await pull(services)
    chain = sorted(services.fake.layers.chains)
    steps = await services.engine.remove_image("web:1")
    names = [*WEB.repo_tags, *WEB.repo_digests]
    assert [step.name for step in steps if step.untagged] == [step.name for step in steps[:2]] == names
    assert (steps[2].name, len(steps)) == (WEB.id, 6)
    assert sorted(step.name for step in steps[3:]) == chain
    assert not services.fake.layers.chains
    assert [action for action, _ in services.published()] == ["pull", "untag", "untag", "delete"]


async def test_saving_is_told_of_each_image_once(services: Connected) -> None:
    await pull(services)
    names = ["web:1", WEB.id.removeprefix("sha256:")[:12]]
    assert [piece async for piece in services.engine.save_images(names)]
    assert services.published()[1:] == [("save", WEB.id)]


async def test_an_image_s_events_have_its_labels_as_long_as_it_is_there(services: Connected) -> None:
    services.fake.images.remote["web:1"] = image("web:1", labels={"of": "test"})
    await pull(services)
    await services.engine.tag_image("web:1", "other:2")
    await services.engine.remove_image("web:1", force=True)
    await services.engine.remove_image("other:2")
    told = [(event.action, event.attributes.get("of")) for event in services.fake.runtime.events.published]
    assert told[:3] == [("pull", "test"), ("tag", "test"), ("untag", "test")]
    assert told[-1] == ("delete", None)
    assert {label for action, label in told if action == "untag"} == {"test"}


async def test_image_that_is_gone_is_told_of_though_its_layers_have_to_wait_for_a_pass(services: Connected) -> None:
    await pull(services)
    services.fake.layers.down = True
    steps = await services.engine.remove_image("web:1")
    assert [step.name for step in steps] == [*WEB.repo_tags, *WEB.repo_digests, WEB.id]
    assert services.fake.layers.chains
    assert [action for action, _ in services.published()] == ["pull", "untag", "untag", "delete"]


@pytest.mark.parametrize(
    ("asked", "status", "force", "message"),
    [
        ("web:1", State.EXITED, False, 'unable to remove repository reference "web:1"'),
        (WEB.id, State.EXITED, False, r"must be forced.*stopped container"),
        (WEB.id, State.RUNNING, True, r"cannot be forced.*running container"),
    ],
)
async def test_an_image_that_a_container_uses_is_not_taken_away(
    services: Connected, asked: str, status: State.Status.ValueType, force: bool, message: str
) -> None:
    await pull(services)
    container = services.fake.runtime.create("sleep")
    record = services.fake.runtime.containers.find(container).record
    record.spec.image_id, record.state.status = WEB.id, status
    with pytest.raises(ConflictError, match=f"{message}.*{container[:12]}"):
        await services.engine.remove_image(asked, force=force)
    assert services.fake.images.images


def build(services: Connected, *names: str) -> None:
    """Have an image whose upper layers have no blobs yet."""
    made = services.fake.images.add(image(names[0], layers=layers_of("base", "middle", "top")))
    made.deferred.extend((MIDDLE, TOP))
    made.repo_tags.extend(names[1:])
    services.fake.layers.applied.update((BASE, MIDDLE, TOP))


@pytest.mark.parametrize("way", ["push", "save", "save by ID", "save a repository"])
async def test_an_image_gets_its_blobs_before_its_content_goes_elsewhere(services: Connected, way: str) -> None:
    build(services, "big:1")
    (made,) = services.fake.images.images.values()
    await pull(services)
    if way == "push":
        steps = [step async for step in services.engine.push("big:1")]
        assert isinstance(steps[-1], Pushed)
    else:
        name = {"save": "big:1", "save by ID": made.id.removeprefix("sha256:")[:12], "save a repository": "big"}[way]
        with suppress(NotFoundError):  # the fake saves no repositories
            assert [piece async for piece in services.engine.save_images([name])]
    assert list(services.fake.images.find("big:1").deferred) == []
    # What an image that was pulled has already is not made once more.
    assert services.fake.layers.packed == []


async def test_only_what_no_image_has_is_packed(services: Connected) -> None:
    build(services, "big:1")
    assert [piece async for piece in services.engine.save_images(["big:1"])]
    assert services.fake.layers.packed == [MIDDLE, TOP]
    layers = services.fake.images.find("big:1").layers
    assert [layer.descriptor.digest for layer in layers[1:]] == [
        Digest.of(f"blob of {diff_id}".encode()) for diff_id in (MIDDLE, TOP)
    ]
    assert [piece async for piece in services.engine.save_images(["big:1"])]
    assert len(services.fake.layers.packed) == 2


async def test_an_image_whose_layer_is_lost_is_not_pushed(services: Connected) -> None:
    build(services, "big:1")
    services.fake.layers.applied.remove(TOP)
    with pytest.raises(NotFoundError, match=f"{TOP} is not stored"):
        await anext(services.engine.push("big:1"))


async def test_a_check_finds_a_lost_layer_of_which_there_is_no_blob(services: Connected) -> None:
    build(services, "big:1", "other:2")
    services.fake.layers.applied.remove(TOP)
    finding, repaired = [step async for step in lost_layers(services.engine, Options(repair=True))]
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.affected, finding.mendable) == ("image-broken", ("big:1", "other:2"), False)
    assert TOP in finding.problem
    assert isinstance(repaired, Repaired)
    assert not repaired.outcome.repaired
    services.fake.layers.applied.add(TOP)
    assert [step async for step in lost_layers(services.engine, Options())] == []
