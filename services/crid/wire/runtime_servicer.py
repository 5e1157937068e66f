"""What ``RuntimeService`` says of the runtime itself."""

import json
from collections.abc import Iterator
from typing import Any, Final, Protocol

import grpc

from crid.cni.model import Condition
from crid.handlers import Handlers
from sampan.api.cri.v1 import runtime_pb2 as pb
from sampan.errors import SampanError
from sampan.json_types import JsonObject
from sampan.resource.stats import HostInfo
from sampan.version import VERSION

Context = grpc.aio.ServicerContext[Any, Any]

RUNTIME_NAME: Final = "sampan"
API_VERSION: Final = "v1"

# What kubelet calls its side of the API, 0.1.0 ever since there was one.
_KUBELET_VERSION: Final = "0.1.0"

_DRIVERS: Final = {"systemd": pb.SYSTEMD, "cgroupfs": pb.CGROUPFS}


class Networks(Protocol):
    """Pods' networks; ``cni.networks`` says what each promises."""

    async def condition(self) -> Condition:
        """Return whether a pod could get one."""

    async def describe(self) -> JsonObject:
        """Return the configuration."""

    async def set_ranges(self, cidrs: str) -> None:
        """Take the ranges of this node's pods."""


class Host(Protocol):
    """The machine; ``resource.protocols.Host`` says what it promises."""

    async def info(self) -> HostInfo:
        """Return what runtimed knows of it."""


class RuntimeServicer:
    """Version, status, configuration."""

    def __init__(self, host: Host, networks: Networks, handlers: Handlers) -> None:
        self._host = host
        self._networks = networks
        self._handlers = handlers

    async def Version(self, request: pb.VersionRequest, context: Context) -> pb.VersionResponse:
        """Return who this is."""
        return pb.VersionResponse(
            version=_KUBELET_VERSION,
            runtime_name=RUNTIME_NAME,
            runtime_version=VERSION,
            runtime_api_version=API_VERSION,
        )

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Return what works."""
        info: HostInfo | None = None
        runtime = pb.RuntimeCondition(type="RuntimeReady", status=True)
        try:
            info = await self._host.info()
        except SampanError as error:
            runtime = pb.RuntimeCondition(type="RuntimeReady", reason="RuntimeNotReady", message=str(error))
        found = await self._networks.condition()
        network = pb.RuntimeCondition(
            type="NetworkReady", status=found.ready, reason=found.reason, message=found.message
        )
        return pb.StatusResponse(
            status=pb.RuntimeStatus(conditions=[runtime, network]),
            info=await self._described(info) if request.verbose else {},
            runtime_handlers=self._runtime_handlers(),
            features=pb.RuntimeFeatures(supplemental_groups_policy=True, mount_options=True),
        )

    def _runtime_handlers(self) -> Iterator[pb.RuntimeHandler]:
        features = pb.RuntimeHandlerFeatures(
            recursive_read_only_mounts=self._handlers.recursive_read_only,
            user_namespaces=self._handlers.user_namespaces,
        )
        for name in self._handlers.names:
            yield pb.RuntimeHandler(name=name, features=features)

    async def _described(self, info: HostInfo | None) -> dict[str, str]:
        told: JsonObject = {
            "cni": await self._networks.describe(),
            "handlers": dict(self._handlers.runtimes),
            "version": VERSION,
        }
        if info is not None:
            told |= {
                "cgroupDriver": info.cgroup_driver,
                "cgroupVersion": info.cgroup_version,
                "runtimes": [each.name for each in info.runtimes],
                "warnings": list(info.warnings),
            }
        return {key: json.dumps(value) for key, value in told.items()}

    async def RuntimeConfig(self, request: pb.RuntimeConfigRequest, context: Context) -> pb.RuntimeConfigResponse:
        """Return who makes cgroups, for kubelet to do it likewise."""
        driver = _DRIVERS[(await self._host.info()).cgroup_driver or "cgroupfs"]
        return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=driver))

    async def UpdateRuntimeConfig(
        self, request: pb.UpdateRuntimeConfigRequest, context: Context
    ) -> pb.UpdateRuntimeConfigResponse:
        """Take the ranges of this node's pods; none: as before."""
        if cidr := request.runtime_config.network_config.pod_cidr:
            await self._networks.set_ranges(cidr)
        return pb.UpdateRuntimeConfigResponse()
