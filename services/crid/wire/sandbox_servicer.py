"""What ``RuntimeService`` does with pod sandboxes: decode, one call, encode."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from crid.containers.containers import Containers
from crid.containers.containers import Selection as ContainerSelection
from crid.sandboxes.model import Sandbox
from crid.sandboxes.sandboxes import Sandboxes, Selection
from crid.wire import convert
from crid.wire.container_servicer import status_to_proto
from sampan.api.cri.v1 import sandbox_pb2 as pb
from sampan.errors import InvalidArgumentError, UnimplementedError

Context = grpc.aio.ServicerContext[Any, Any]

# What one message of a stream has: few enough for any client's limit.
PAGE: Final = 64


class SandboxServicer:
    """Pod sandboxes."""

    def __init__(self, sandboxes: Sandboxes, containers: Containers) -> None:
        self._sandboxes = sandboxes
        self._containers = containers

    async def RunPodSandbox(self, request: pb.RunPodSandboxRequest, context: Context) -> pb.RunPodSandboxResponse:
        """Make one."""
        config = convert.POD_CONFIG.decode(request.config)
        encoded = request.config.SerializeToString(deterministic=True)
        return pb.RunPodSandboxResponse(
            pod_sandbox_id=await self._sandboxes.run(config, encoded, request.runtime_handler)
        )

    async def StopPodSandbox(self, request: pb.StopPodSandboxRequest, context: Context) -> pb.StopPodSandboxResponse:
        """Stop it."""
        await self._sandboxes.stop(_id(request.pod_sandbox_id))
        return pb.StopPodSandboxResponse()

    async def RemovePodSandbox(
        self, request: pb.RemovePodSandboxRequest, context: Context
    ) -> pb.RemovePodSandboxResponse:
        """Remove it."""
        await self._sandboxes.remove(_id(request.pod_sandbox_id))
        return pb.RemovePodSandboxResponse()

    async def PodSandboxStatus(
        self, request: pb.PodSandboxStatusRequest, context: Context
    ) -> pb.PodSandboxStatusResponse:
        """Return one, and how its containers are."""
        sandbox = self._sandboxes.get(_id(request.pod_sandbox_id))
        timestamp = time.time_ns()
        views = await self._containers.select(ContainerSelection(sandbox=sandbox.id))
        return pb.PodSandboxStatusResponse(
            status=sandbox_status(sandbox),
            info={"info": json.dumps(self._info(sandbox))} if request.verbose else {},
            containers_statuses=[status_to_proto(view) for view in views],
            timestamp=timestamp,
        )

    async def ListPodSandbox(self, request: pb.ListPodSandboxRequest, context: Context) -> pb.ListPodSandboxResponse:
        """Return those asked for."""
        found = self._sandboxes.select(_selection(request.filter))
        return pb.ListPodSandboxResponse(items=map(_item, found))

    async def StreamPodSandboxes(
        self, request: pb.StreamPodSandboxesRequest, context: Context
    ) -> AsyncIterator[pb.StreamPodSandboxesResponse]:
        """Yield those asked for."""
        found = self._sandboxes.select(_selection(request.filter))
        for begin in range(0, len(found), PAGE):
            yield pb.StreamPodSandboxesResponse(pod_sandboxes=map(_item, found[begin : begin + PAGE]))

    async def UpdatePodSandboxResources(
        self, request: pb.UpdatePodSandboxResourcesRequest, context: Context
    ) -> pb.UpdatePodSandboxResourcesResponse:
        """Take note: kubelet has changed the pod's cgroup itself, and nothing else here has limits of a pod's."""
        self._sandboxes.get(_id(request.pod_sandbox_id))
        return pb.UpdatePodSandboxResourcesResponse()

    async def CheckpointPod(self, request: pb.CheckpointPodRequest, context: Context) -> pb.CheckpointPodResponse:
        """Refuse."""
        raise UnimplementedError("pods cannot be checkpointed by this runtime")

    async def RestorePod(self, request: pb.RestorePodRequest, context: Context) -> pb.RestorePodResponse:
        """Refuse."""
        raise UnimplementedError("pods cannot be restored from checkpoints by this runtime")

    def _info(self, sandbox: Sandbox) -> dict[str, object]:
        places = self._sandboxes.places(sandbox)
        return {
            "pid": 0,  # no process belongs to a sandbox alone
            "runtimeHandler": sandbox.handler,
            "state": sandbox.state.value,
            "infra": sandbox.infra,
            "networkNamespace": "" if sandbox.host_network else str(places.namespace("net")),
            "directory": str(places.directory),
            "cgroupParent": sandbox.config.linux.cgroup_parent,
        }


def sandbox_status(sandbox: Sandbox) -> pb.PodSandboxStatus:
    """Return a sandbox as CRI shows it."""
    first, *others = sandbox.addresses or ("",)
    return pb.PodSandboxStatus(
        id=sandbox.id,
        metadata=convert.POD_METADATA.encode(sandbox.config.metadata),
        state=_state(sandbox),
        created_at=sandbox.created_ns,
        network=pb.PodSandboxNetworkStatus(ip=first, additional_ips=[pb.PodIP(ip=other) for other in others]),
        linux=pb.LinuxPodSandboxStatus(namespaces=pb.Namespace(options=convert.NAMESPACES.encode(sandbox.namespaces))),
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.handler,
    )


def _item(sandbox: Sandbox) -> pb.PodSandbox:
    return pb.PodSandbox(
        id=sandbox.id,
        metadata=convert.POD_METADATA.encode(sandbox.config.metadata),
        state=_state(sandbox),
        created_at=sandbox.created_ns,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.handler,
    )


def _state(sandbox: Sandbox) -> pb.PodSandboxState.ValueType:
    return pb.SANDBOX_READY if sandbox.ready else pb.SANDBOX_NOTREADY


def _selection(asked: pb.PodSandboxFilter) -> Selection:
    ready = asked.state.state == pb.SANDBOX_READY if asked.HasField("state") else None
    return Selection(asked.id, ready, dict(asked.label_selector))


def _id(id: str) -> str:
    if not id:
        raise InvalidArgumentError("pod_sandbox_id is empty")
    return id
