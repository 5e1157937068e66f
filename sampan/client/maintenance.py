"""Clients of what services say about themselves: ``sampan.disk.v1``, ``sampan.check.v1``, health, runtimed's host."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sampan.api.check.v1 import check_pb2 as check_pb
from sampan.api.check.v1.check_pb2_grpc import CheckStub
from sampan.api.disk.v1 import disk_pb2 as disk_pb
from sampan.api.disk.v1.disk_pb2_grpc import DiskStub
from sampan.api.runtime.v1 import host_pb2 as host_pb
from sampan.api.runtime.v1.host_pb2_grpc import HostStub
from sampan.check import Finding, Means, Outcome, Step
from sampan.client.calls import read
from sampan.client.convert import check as convert
from sampan.client.convert.disk import OBJECT, collected_from_proto
from sampan.disk import Collected, StoredObject
from sampan.errors import UnavailableError
from sampan.resource.stats import HostInfo
from sampan.wire.channel import open_channel, reach, rpc_errors
from sampan.wire.repeating import CHECK, INFO, Repeating

if TYPE_CHECKING:
    from sampan.api.check.v1.check_pb2_grpc import CheckAsyncStub
    from sampan.api.disk.v1.disk_pb2_grpc import DiskAsyncStub
    from sampan.api.runtime.v1.host_pb2_grpc import HostAsyncStub


class DiskClient:
    """Satisfies ``sampan.disk.Disk``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: DiskAsyncStub = DiskStub(channel)

    def objects(self) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield all that is on disk."""
        return read(self._stub.Usage(disk_pb.UsageRequest()), lambda page: OBJECT.decode_all(page.objects))

    async def collect(self, *, leftovers: bool = False) -> Collected:
        """Remove what nothing needs."""
        with rpc_errors():
            return collected_from_proto(await self._stub.Collect(disk_pb.CollectRequest(leftovers=leftovers)))


class CheckClient:
    """Satisfies ``sampan.check.Check``."""

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        """``service`` is its name, for messages."""
        self._channel = channel
        self._service = service
        self._stub: CheckAsyncStub = CheckStub(channel)
        # A repair of one service has others begin anew, and they may be about to.
        self._again = Repeating(channel, service, waits=True)

    def check(self, *, quick: bool = False) -> AsyncGenerator[Step, None]:
        """Yield how far it is, and what is wrong."""
        request = check_pb.CheckRequest(quick=quick)
        return self._again.read(CHECK, lambda: read(self._stub.Check(request), convert.step_from_proto))

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """Repair what ``finding`` names."""
        with rpc_errors():
            return convert.outcome_from_proto(await self._stub.Repair(convert.repair_to_proto(finding, means)))

    async def restored(self, deadline_s: float) -> str:
        """Wait until the service serves again; return what became of its database."""
        ready = grpc.ChannelConnectivity.READY
        try:
            async with asyncio.timeout(deadline_s):
                while self._channel.get_state() is ready:
                    await self._channel.wait_for_state_change(ready)
        except TimeoutError as error:
            raise UnavailableError(f"it has not stopped within {deadline_s:g} seconds") from error
        await reach(self._channel, self._service, deadline_s)
        with rpc_errors():
            return (await self._stub.Restored(check_pb.RestoredRequest())).outcome


class HostClient:
    """Satisfies ``resource.protocols.Host``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: HostAsyncStub = HostStub(channel)
        self._again = Repeating(channel, "runtimed")

    async def info(self) -> HostInfo:
        """Say what there is."""
        from sampan.client.convert.stats import HOST  # every service's own client is here, and none needs this

        return HOST.decode(await self._again.ask(INFO, lambda: self._stub.Info(host_pb.HostInfoRequest())))


async def is_serving(socket: Path, deadline_s: float) -> bool:
    """Say whether the service on ``socket`` says that it serves; False if it does not answer in time."""
    async with open_channel(socket) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=deadline_s
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
