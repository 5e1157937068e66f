"""``Exec``, ``Attach``, ``PortForward``: each answers with a URL that serves what was asked for once."""

from typing import Any, Protocol

import grpc

from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request, StandardStreams
from sampan.api.cri.v1 import streaming_pb2 as pb
from sampan.errors import InvalidArgumentError

Context = grpc.aio.ServicerContext[Any, Any]


class Targets(Protocol):
    """What can be streamed to. IDs may be abbreviated."""

    async def running_container(self, id: str) -> str:
        """Return the whole ID of a pod's container. NotFoundError; ConflictError: it does not run."""

    async def ready_sandbox(self, id: str) -> str:
        """Return the whole ID of a sandbox. NotFoundError; ConflictError: it is not ready."""


class Urls(Protocol):
    """The server behind the URLs."""

    def url(self, request: Request) -> str:
        """Return where ``request`` is served. ResourceExhaustedError: too many wait for their clients."""


class StreamingServicer:
    """Sessions with containers and pods."""

    def __init__(self, urls: Urls, targets: Targets) -> None:
        self._urls = urls
        self._targets = targets

    async def Exec(self, request: pb.ExecRequest, context: Context) -> pb.ExecResponse:
        """Return where a command runs."""
        streams = StandardStreams(request.stdin, request.stdout, request.stderr, request.tty)
        if not request.cmd:
            raise InvalidArgumentError("cmd is empty: there is nothing to run")
        container = await self._targets.running_container(_given(request.container_id, "container_id"))
        return pb.ExecResponse(url=self._urls.url(ExecRequest(container, tuple(request.cmd), streams)))

    async def Attach(self, request: pb.AttachRequest, context: Context) -> pb.AttachResponse:
        """Return where a container's own process is reached."""
        streams = StandardStreams(request.stdin, request.stdout, request.stderr, request.tty)
        container = await self._targets.running_container(_given(request.container_id, "container_id"))
        return pb.AttachResponse(url=self._urls.url(AttachRequest(container, streams)))

    async def PortForward(self, request: pb.PortForwardRequest, context: Context) -> pb.PortForwardResponse:
        """Return where a pod's ports are reached."""
        if bad := [port for port in request.port if not 0 < port < 1 << 16]:
            raise InvalidArgumentError(f"port {bad[0]} is none: they go from 1 to 65535")
        sandbox = await self._targets.ready_sandbox(_given(request.pod_sandbox_id, "pod_sandbox_id"))
        return pb.PortForwardResponse(url=self._urls.url(PortForwardRequest(sandbox, tuple(request.port))))


def _given(value: str, field: str) -> str:
    if not value:
        raise InvalidArgumentError(f"{field} is empty")
    return value
