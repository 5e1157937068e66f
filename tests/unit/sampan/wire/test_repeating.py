"""Calls that are made again: which of them, when, and what the second answer means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

import grpc
import pytest

from sampan import errors
from sampan.client.builds.client import BuildsClient
from sampan.client.maintenance import CheckClient, HostClient
from sampan.client.runtime.archives import ArchivesClient
from sampan.client.runtime.containers import ContainersClient
from sampan.client.runtime.execs import ExecsClient
from sampan.client.runtime.networks import NetworksClient
from sampan.client.runtime.volumes import VolumesClient
from sampan.client.storage.images import ImagesClient
from sampan.client.storage.leases import LeasesClient
from sampan.client.storage.snapshots import DifferClient, LayersClient, SnapshotsClient
from sampan.oci.digest import Digest
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Endpoint, Process
from sampan.resource.content import LastingLease
from sampan.resource.exec import ExecSpec
from sampan.resource.network import NetworkRequest
from sampan.resource.volume import VolumeRequest
from sampan.wire.channel import open_channel
from sampan.wire.repeating import PREPARE_OWN, REPEATABLE
from tests.fakes.any_service import AnyService, any_service, connected

Call = Callable[[grpc.aio.Channel], Awaitable[object]]

_SIZE: Final = ConsoleSize(80, 25)
_DIGEST: Final = Digest(f"sha256:{'0' * 64}")


async def _everything(stream: AsyncIterator[object]) -> list[object]:
    return [each async for each in stream]


# What clients do, by the method that is called for it.
CALLS: Final[dict[str, Call]] = {
    "sampan.runtime.v1.Containers/Create": lambda c: ContainersClient(c).create(
        ContainerSpec(name="web", process=Process(cmd=("true",)))
    ),
    "sampan.runtime.v1.Containers/Get": lambda c: ContainersClient(c).get("web"),
    "sampan.runtime.v1.Containers/List": lambda c: ContainersClient(c).list(),
    "sampan.runtime.v1.Containers/Start": lambda c: ContainersClient(c).start("web"),
    "sampan.runtime.v1.Containers/Stop": lambda c: ContainersClient(c).stop("web"),
    "sampan.runtime.v1.Containers/Restart": lambda c: ContainersClient(c).restart("web"),
    "sampan.runtime.v1.Containers/Kill": lambda c: ContainersClient(c).kill("web"),
    "sampan.runtime.v1.Containers/Pause": lambda c: ContainersClient(c).pause("web"),
    "sampan.runtime.v1.Containers/Unpause": lambda c: ContainersClient(c).unpause("web"),
    "sampan.runtime.v1.Containers/Remove": lambda c: ContainersClient(c).remove("web"),
    "sampan.runtime.v1.Containers/Rename": lambda c: ContainersClient(c).rename("web", "db"),
    "sampan.runtime.v1.Containers/Update": lambda c: ContainersClient(c).update("web"),
    "sampan.runtime.v1.Containers/Resize": lambda c: ContainersClient(c).resize("web", _SIZE),
    "sampan.runtime.v1.Containers/Top": lambda c: ContainersClient(c).top("web"),
    "sampan.runtime.v1.Containers/Prune": lambda c: ContainersClient(c).prune(),
    # Waits are taken up again by ``engine.following``, which knows what was missed.
    "sampan.runtime.v1.Containers/Wait": lambda c: _everything(ContainersClient(c).wait("web")),
    "sampan.runtime.v1.Containers/ReopenLog": lambda c: ContainersClient(c).reopen_log("web"),
    "sampan.runtime.v1.Containers/Samples": lambda c: ContainersClient(c).samples(),
    "sampan.runtime.v1.Archives/Stat": lambda c: ArchivesClient(c).stat("web", "/"),
    "sampan.runtime.v1.Execs/Create": lambda c: ExecsClient(c).create("web", ExecSpec(("true",))),
    "sampan.runtime.v1.Execs/Get": lambda c: ExecsClient(c).get("e"),
    "sampan.runtime.v1.Execs/Resize": lambda c: ExecsClient(c).resize("e", _SIZE),
    "sampan.runtime.v1.Execs/Kill": lambda c: ExecsClient(c).kill("e"),
    "sampan.runtime.v1.Networks/Create": lambda c: NetworksClient(c).create(NetworkRequest("net")),
    "sampan.runtime.v1.Networks/Get": lambda c: NetworksClient(c).get("net"),
    "sampan.runtime.v1.Networks/List": lambda c: NetworksClient(c).list(),
    "sampan.runtime.v1.Networks/Remove": lambda c: NetworksClient(c).remove("net"),
    "sampan.runtime.v1.Networks/Connect": lambda c: NetworksClient(c).connect("net", "web", Endpoint("net")),
    "sampan.runtime.v1.Networks/Disconnect": lambda c: NetworksClient(c).disconnect("net", "web"),
    "sampan.runtime.v1.Networks/Prune": lambda c: NetworksClient(c).prune(),
    "sampan.runtime.v1.Volumes/Create": lambda c: VolumesClient(c).create(VolumeRequest("v")),
    "sampan.runtime.v1.Volumes/Get": lambda c: VolumesClient(c).get("v"),
    "sampan.runtime.v1.Volumes/List": lambda c: VolumesClient(c).list(),
    "sampan.runtime.v1.Volumes/Remove": lambda c: VolumesClient(c).remove("v"),
    "sampan.runtime.v1.Volumes/Prune": lambda c: VolumesClient(c).prune(),
    "sampan.runtime.v1.Host/Info": lambda c: HostClient(c).info(),
    "sampan.image.v1.Images/Get": lambda c: ImagesClient(c).get("busybox"),
    "sampan.image.v1.Images/List": lambda c: ImagesClient(c).list(),
    "sampan.image.v1.Images/Tag": lambda c: ImagesClient(c).tag("busybox", "b"),
    "sampan.image.v1.Images/Remove": lambda c: ImagesClient(c).remove("busybox"),
    "sampan.image.v1.Images/Forms": lambda c: ImagesClient(c).forms((_DIGEST,)),
    "sampan.image.v1.Leases/Put": lambda c: LeasesClient(c).put(LastingLease("l", "buildd")),
    "sampan.snapshot.v1.Layers/Freeze": lambda c: DifferClient(c).freeze("k", ()),
    "sampan.snapshot.v1.Layers/Pack": lambda c: DifferClient(c).pack(_DIGEST),
    "sampan.snapshot.v1.Layers/Stack": lambda c: LayersClient(c).stack((_DIGEST,)),
    "containerd.services.snapshots.v1.Snapshots/View": lambda c: SnapshotsClient(c).view("k", "p", {}),
    "containerd.services.snapshots.v1.Snapshots/Commit": lambda c: SnapshotsClient(c).commit("n", "k", {}),
    "containerd.services.snapshots.v1.Snapshots/Stat": lambda c: SnapshotsClient(c).stat("k"),
    "containerd.services.snapshots.v1.Snapshots/Mounts": lambda c: SnapshotsClient(c).mounts("k"),
    "containerd.services.snapshots.v1.Snapshots/List": lambda c: SnapshotsClient(c).list(()),
    "containerd.services.snapshots.v1.Snapshots/Usage": lambda c: SnapshotsClient(c).usage("k"),
    "containerd.services.snapshots.v1.Snapshots/Remove": lambda c: SnapshotsClient(c).remove("k"),
    "sampan.check.v1.Check/Check": lambda c: _everything(CheckClient(c, "imaged").check()),
}


@pytest.fixture
async def service() -> AsyncIterator[AnyService]:
    async with any_service() as found:
        yield found


async def test_what_is_repeatable_is_tried_here() -> None:
    assert {method.method for method in REPEATABLE} - set(CALLS) == {PREPARE_OWN.method}  # runtimed's snapshots
    assert len({method.method for method in REPEATABLE}) == len(REPEATABLE)


@pytest.mark.parametrize("method", CALLS)
async def test_what_is_repeatable_is_called_again_and_nothing_else(service: AnyService, method: str) -> None:
    async with connected(service) as channel:
        # An empty answer is not always a possible one.
        with suppress(errors.ServiceGoneError, errors.InvalidArgumentError, KeyError):
            await CALLS[method](channel)
    assert service.calls == {method: 2 if method in {each.method for each in REPEATABLE} else 1}


@pytest.mark.parametrize("method", [each for each in REPEATABLE if each.done and each.method in CALLS], ids=str)
async def test_a_second_call_that_finds_it_done_is_a_success(service: AnyService, method: object) -> None:
    (found,) = [each for each in REPEATABLE if each is method]
    assert found.done is not None
    service.ends_with = found.done("there is nothing to do")
    async with connected(service) as channel:
        await CALLS[found.method](channel)
        with pytest.raises(found.done):  # which was no second call
            await CALLS[found.method](channel)


async def test_other_refusals_of_a_second_call_are_told(service: AnyService) -> None:
    service.ends_with = errors.ConflictError("it runs")
    async with connected(service) as channel:
        with pytest.raises(errors.ConflictError, match="it runs"):
            await ContainersClient(channel).remove("web")


async def test_a_question_whose_subject_is_gone_by_the_second_call_is_not_answered(service: AnyService) -> None:
    service.ends_with = errors.NotFoundError("No such container: web")
    async with connected(service) as channel:
        with pytest.raises(errors.NotFoundError):
            await ContainersClient(channel).get("web")


async def test_a_call_is_made_again_once(service: AnyService) -> None:
    service.kills = 2
    async with connected(service) as channel:
        with pytest.raises(errors.ServiceGoneError):
            await ContainersClient(channel).stop("web")
    assert service.calls.total() == 2


async def test_a_service_that_was_never_there_is_not_waited_for(tmp_path: Path) -> None:
    async with open_channel(tmp_path / "nobody") as channel:
        with pytest.raises(errors.ServiceGoneError):
            await ContainersClient(channel).get("web")


async def test_a_service_that_was_called_before_is_waited_for(service: AnyService) -> None:
    service.kills = 0
    async with connected(service) as channel:
        client = ContainersClient(channel)
        await client.stop("web")
        await service.line.close()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        again = asyncio.create_task(client.stop("web"))
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        await service.line.listen()
        await again
    assert service.calls.total() == 2


async def test_a_list_that_has_begun_is_not_begun_again(service: AnyService) -> None:
    service.told_before = 1
    async with connected(service) as channel, aclosing(VolumesClient(channel).pages()) as pages:
        assert await anext(pages) == ()
        service.seen.set()
        with pytest.raises(errors.ServiceGoneError):
            await anext(pages)
    assert service.calls.total() == 1


async def test_an_anonymous_volume_is_not_made_twice(service: AnyService) -> None:
    async with connected(service) as channel:
        with pytest.raises(errors.ServiceGoneError):
            await VolumesClient(channel).create(VolumeRequest())
    assert service.calls.total() == 1


async def test_what_a_service_says_itself_is_no_broken_line(service: AnyService) -> None:
    service.kills, service.ends_with = 0, errors.UnavailableError("runtimed is stopping")
    async with connected(service) as channel:
        with pytest.raises(errors.UnavailableError, match="stopping"):
            await ContainersClient(channel).get("web")
    assert service.calls.total() == 1


async def test_a_builder_that_is_away_is_waited_for_by_who_knows_that_it_is_there(service: AnyService) -> None:
    service.kills = 0
    async with connected(service) as channel:
        await service.line.close()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        with pytest.raises(errors.ServiceGoneError):
            await BuildsClient(channel, Path("nowhere")).usage()
        usage = asyncio.create_task(BuildsClient(channel, Path("nowhere"), waits=True).usage())
        await asyncio.sleep(0)
        await service.line.listen()
        assert await usage == []
    assert service.calls.total() == 1


async def test_a_builder_that_is_known_to_have_nothing_is_not_asked_for_that(service: AnyService) -> None:
    service.kills = 0
    async with connected(service) as channel:
        client = BuildsClient(channel, Path("nowhere"), is_empty=lambda: True)
        assert await client.usage() == ()
        assert service.calls.total() == 0
        await client.usage(("nonsense",))  # which is its own to refuse
    assert service.calls.total() == 1
