"""The snapshotter is killed in the middle of runtimed's calls."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import grpc
import pytest

from runtimed.containers.snapshots import OwnSnapshots
from sampan.client.storage.snapshots import SnapshotsClient
from sampan.errors import AlreadyExistsError, NotFoundError, ServiceGoneError
from sampan.wire.channel import open_channel
from tests.fakes.any_service import AnyService, any_service

Call = Callable[[OwnSnapshots], Awaitable[object]]

CALLS: dict[str, Call] = {
    "prepare": lambda client: client.prepare("key", "parent"),
    "mounts": lambda client: client.mounts("key"),
    "remove": lambda client: client.remove("key"),
    "usage": lambda client: client.usage("key"),
    "keys": lambda client: client.keys(),
}


def own(channel: grpc.aio.Channel) -> OwnSnapshots:
    return OwnSnapshots(SnapshotsClient(channel, own=True))


@pytest.fixture
async def service() -> AsyncIterator[AnyService]:
    async with any_service() as found:
        yield found


@pytest.mark.parametrize("name", CALLS)
async def test_each_is_made_again_also_if_it_was_the_first_of_all(service: AnyService, name: str) -> None:
    async with open_channel(service.line.here) as channel:
        await CALLS[name](own(channel))
    assert service.calls.total() == 2


@pytest.mark.parametrize("name", CALLS)
async def test_each_is_made_again_once(service: AnyService, name: str) -> None:
    service.kills = 2
    async with open_channel(service.line.here) as channel:
        with pytest.raises(ServiceGoneError):
            await CALLS[name](own(channel))
    assert service.calls.total() == 2


async def test_a_snapshot_that_the_first_call_has_made_is_asked_for_its_mounts(service: AnyService) -> None:
    service.ends_with = AlreadyExistsError("snapshot key: already exists")
    async with open_channel(service.line.here) as channel:
        with suppress(AlreadyExistsError):  # which the next call is told here, too
            await own(channel).prepare("key", "parent")
    assert [name.rpartition("/")[2] for name in service.calls] == ["Prepare", "Mounts"]


async def test_a_snapshot_that_the_first_call_has_removed_is_gone(service: AnyService) -> None:
    service.ends_with = NotFoundError("snapshot key does not exist")
    async with open_channel(service.line.here) as channel:
        await own(channel).remove("key")
    assert service.calls.total() == 2
