"""Client of ``sampan.runtime.v1.Host``."""

from typing import TYPE_CHECKING

import grpc

from sampan.api.runtime.v1 import host_pb2 as pb
from sampan.api.runtime.v1.host_pb2_grpc import HostStub
from sampan.client.convert.stats import HOST
from sampan.resource.stats import HostInfo
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.api.runtime.v1.host_pb2_grpc import HostAsyncStub


class HostClient:
    """Satisfies ``resource.protocols.Host``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: HostAsyncStub = HostStub(channel)

    async def info(self) -> HostInfo:
        """Say what there is."""
        with rpc_errors():
            return HOST.decode(await self._stub.Info(pb.HostInfoRequest()))
