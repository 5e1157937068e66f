"""What ``RuntimeService`` does with containers: decode, one call, encode."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from crid.containers.containers import Containers, Selection
from crid.containers.exec_sync import Execs, ExecTimeoutError, exec_sync
from crid.containers.view import State, View
from crid.wire import convert
from sampan.api.cri.v1 import container_pb2 as pb
from sampan.api.cri.v1 import security_pb2, streaming_pb2
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.resource.container import ContainerDetails
from sampan.wire.status import ForeignError

Context = grpc.aio.ServicerContext[Any, Any]

PAGE: Final = 64

_STATES: Final = {
    State.CREATED: pb.CONTAINER_CREATED,
    State.RUNNING: pb.CONTAINER_RUNNING,
    State.EXITED: pb.CONTAINER_EXITED,
    State.UNKNOWN: pb.CONTAINER_UNKNOWN,
}
_NAMES: Final = {number: state.name for state, number in _STATES.items()}


class ContainerServicer:
    """Containers of pods."""

    def __init__(self, containers: Containers, execs: Execs) -> None:
        self._containers = containers
        self._execs = execs

    async def CreateContainer(self, request: pb.CreateContainerRequest, context: Context) -> pb.CreateContainerResponse:
        """Make one."""
        config = convert.container_config(request.config)
        pod = convert.POD_METADATA.decode(request.sandbox_config.metadata)
        made = await self._containers.create(
            _given(request.pod_sandbox_id, "pod_sandbox_id"),
            config,
            pod if request.sandbox_config.HasField("metadata") else None,
        )
        return pb.CreateContainerResponse(container_id=made)

    async def StartContainer(self, request: pb.StartContainerRequest, context: Context) -> pb.StartContainerResponse:
        """Start it."""
        await self._containers.start(_id(request.container_id))
        return pb.StartContainerResponse()

    async def StopContainer(self, request: pb.StopContainerRequest, context: Context) -> pb.StopContainerResponse:
        """Stop it."""
        await self._containers.stop(_id(request.container_id), request.timeout)
        return pb.StopContainerResponse()

    async def RemoveContainer(self, request: pb.RemoveContainerRequest, context: Context) -> pb.RemoveContainerResponse:
        """Remove it."""
        await self._containers.remove(_id(request.container_id))
        return pb.RemoveContainerResponse()

    async def ListContainers(self, request: pb.ListContainersRequest, context: Context) -> pb.ListContainersResponse:
        """Return those asked for."""
        return pb.ListContainersResponse(containers=map(_item, await self._select(request.filter)))

    async def StreamContainers(
        self, request: pb.StreamContainersRequest, context: Context
    ) -> AsyncIterator[pb.StreamContainersResponse]:
        """Yield those asked for."""
        found = await self._select(request.filter)
        for begin in range(0, len(found), PAGE):
            yield pb.StreamContainersResponse(containers=map(_item, found[begin : begin + PAGE]))

    async def _select(self, asked: pb.ContainerFilter) -> list[View]:
        if asked.HasField("state") and asked.state.state not in _NAMES:
            raise InvalidArgumentError(f"filter.state is {asked.state.state}: there is no such state")
        state = _NAMES[asked.state.state] if asked.HasField("state") else ""
        selection = Selection(asked.id, asked.pod_sandbox_id, state, dict(asked.label_selector))
        return await self._containers.select(selection)

    async def ContainerStatus(self, request: pb.ContainerStatusRequest, context: Context) -> pb.ContainerStatusResponse:
        """Return one."""
        view, details = await self._containers.view(_id(request.container_id))
        info = {"info": json.dumps(_info(view, details))} if request.verbose else {}
        return pb.ContainerStatusResponse(status=status_to_proto(view), info=info)

    async def UpdateContainerResources(
        self, request: pb.UpdateContainerResourcesRequest, context: Context
    ) -> pb.UpdateContainerResourcesResponse:
        """Change limits."""
        if request.HasField("windows"):
            raise InvalidArgumentError("windows: containers of Windows do not run here")
        asked = convert.RESOURCES.decode(request.linux)
        await self._containers.update(_id(request.container_id), asked, dict(request.annotations))
        return pb.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(
        self, request: pb.ReopenContainerLogRequest, context: Context
    ) -> pb.ReopenContainerLogResponse:
        """Have its log's file opened anew."""
        await self._containers.reopen_log(_id(request.container_id))
        return pb.ReopenContainerLogResponse()

    async def ExecSync(
        self, request: streaming_pb2.ExecSyncRequest, context: Context
    ) -> streaming_pb2.ExecSyncResponse:
        """Run a command."""
        container = self._containers.record(_id(request.container_id)).id
        try:
            outcome = await exec_sync(self._execs, container, tuple(request.cmd), request.timeout)
        except ExecTimeoutError as error:  # which kubelet knows a probe that takes too long by
            raise ForeignError(error, grpc.StatusCode.DEADLINE_EXCEEDED) from None
        return streaming_pb2.ExecSyncResponse(stdout=outcome.stdout, stderr=outcome.stderr, exit_code=outcome.exit_code)

    async def CheckpointContainer(
        self, request: pb.CheckpointContainerRequest, context: Context
    ) -> pb.CheckpointContainerResponse:
        """Refuse."""
        self._containers.record(_id(request.container_id))
        raise UnimplementedError("containers cannot be checkpointed: this runtime does not work with CRIU")


def status_to_proto(view: View) -> pb.ContainerStatus:
    """Return a container as CRI shows it by itself."""
    record = view.record
    user = None
    if view.user is not None:
        uid, gid, groups = view.user
        linux = security_pb2.LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=groups)
        user = pb.ContainerUser(linux=linux)
    return pb.ContainerStatus(
        id=record.id,
        metadata=convert.CONTAINER_METADATA.encode(record.config.metadata),
        state=_STATES[view.state],
        created_at=record.created_ns,
        started_at=view.started_ns,
        finished_at=view.finished_ns,
        exit_code=view.exit_code,
        image=convert.image_spec(record),
        image_ref=record.image.ref,
        reason=view.reason,
        message=view.message,
        labels=record.config.labels,
        annotations=record.config.annotations,
        mounts=convert.MOUNT.encode_all(record.config.mounts),
        log_path=record.log_path,
        resources=pb.ContainerResources(linux=convert.RESOURCES.encode(record.config.linux.resources)),
        image_id=record.image.id,
        user=user,
        stop_signal=convert.signal_number(view.stop_signal),
    )


def _item(view: View) -> pb.Container:
    record = view.record
    return pb.Container(
        id=record.id,
        pod_sandbox_id=record.sandbox,
        metadata=convert.CONTAINER_METADATA.encode(record.config.metadata),
        image=convert.image_spec(record),
        image_ref=record.image.ref,
        state=_STATES[view.state],
        created_at=record.created_ns,
        labels=record.config.labels,
        annotations=record.config.annotations,
        image_id=record.image.id,
    )


def _info(view: View, details: ContainerDetails) -> dict[str, object]:
    return {
        "sandboxID": view.record.sandbox,
        "pid": details.state.pid,
        "runtimeType": details.runtime,
        "cgroupPath": details.cgroup_path,
        "rootPath": details.root_path,
        "snapshotter": details.driver,
        "name": view.record.name,
        "privileged": details.spec.security.privileged,
        "namespaces": {
            "network": details.spec.namespaces.network,
            "pid": details.spec.namespaces.pid,
            "ipc": details.spec.namespaces.ipc,
            "uts": details.spec.namespaces.uts,
        },
        "mounts": [{"source": each.source, "destination": each.target} for each in details.mounts],
        "args": list(details.spec.process.args),
        "envs": list(details.spec.process.env),
    }


def _id(id: str) -> str:
    return _given(id, "container_id")


def _given(value: str, field: str) -> str:
    if not value:
        raise InvalidArgumentError(f"{field} is empty")
    return value
