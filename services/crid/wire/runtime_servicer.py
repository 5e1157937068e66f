"""What ``RuntimeService`` says of the runtime itself."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from sampan.api.cri.v1 import container_pb2, sandbox_pb2
from sampan.api.cri.v1 import runtime_pb2 as pb
from sampan.version import VERSION

Context = grpc.aio.ServicerContext[Any, Any]

RUNTIME_NAME: Final = "sampan"
API_VERSION: Final = "v1"


class RuntimeServicer:
    """Version, status, configuration."""

    async def Version(self, request: pb.VersionRequest, context: Context) -> pb.VersionResponse:
        """Return who this is."""
        # The first is what kubelet calls its API, 0.1.0 ever since there was one.
        return pb.VersionResponse(
            version="0.1.0", runtime_name=RUNTIME_NAME, runtime_version=VERSION, runtime_api_version=API_VERSION
        )

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Return what works."""
        conditions = (
            pb.RuntimeCondition(type="RuntimeReady", status=True),
            pb.RuntimeCondition(
                type="NetworkReady", reason="NetworkPluginNotReady", message="no network for pods is configured"
            ),
        )
        return pb.StatusResponse(status=pb.RuntimeStatus(conditions=conditions))

    async def ListPodSandbox(
        self, request: sandbox_pb2.ListPodSandboxRequest, context: Context
    ) -> sandbox_pb2.ListPodSandboxResponse:
        """Return none."""
        return sandbox_pb2.ListPodSandboxResponse()

    async def ListContainers(
        self, request: container_pb2.ListContainersRequest, context: Context
    ) -> container_pb2.ListContainersResponse:
        """Return none."""
        return container_pb2.ListContainersResponse()

    async def StreamPodSandboxes(
        self, request: sandbox_pb2.StreamPodSandboxesRequest, context: Context
    ) -> AsyncIterator[sandbox_pb2.StreamPodSandboxesResponse]:
        """Yield none."""
        for _ in ():
            yield sandbox_pb2.StreamPodSandboxesResponse()

    async def StreamContainers(
        self, request: container_pb2.StreamContainersRequest, context: Context
    ) -> AsyncIterator[container_pb2.StreamContainersResponse]:
        """Yield none."""
        for _ in ():
            yield container_pb2.StreamContainersResponse()
