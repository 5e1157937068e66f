"""``sampan.runtime.v1.Host``: one call, encode."""

from typing import Any

import grpc

from sampan.api.runtime.v1 import host_pb2 as pb
from sampan.api.runtime.v1 import host_pb2_grpc
from sampan.client.convert.stats import HOST
from sampan.resource.protocols import Host

Context = grpc.aio.ServicerContext[Any, Any]


class HostServicer(host_pb2_grpc.HostServicer):
    """The host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def Info(self, request: pb.HostInfoRequest, context: Context) -> pb.HostInfoResponse:
        """Say what there is and what was chosen because of it."""
        return HOST.encode(await self._host.info())
