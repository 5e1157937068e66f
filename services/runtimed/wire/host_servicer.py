"""gRPC's side of what the host can do: gather and encode."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import grpc

from runtimed.events import Events
from runtimed.host.facts import HostFacts
from runtimed.host.info import Installed, security_options, warnings
from sampan.api.runtime.v1 import host_pb2 as pb
from sampan.api.runtime.v1 import host_pb2_grpc
from sampan.resource.container import Status

Context = grpc.aio.ServicerContext[Any, Any]


class HostServicer(host_pb2_grpc.HostServicer):
    """``sampan.runtime.v1.Host``."""

    def __init__(
        self,
        host: HostFacts,
        installed: Installed,
        statuses: Callable[[], Iterable[Status]],
        events: Events,
        *,
        log_drivers: Collection[str],
        network_drivers: Collection[str],
        volume_drivers: Collection[str],
    ) -> None:
        self._host = host
        self._installed = installed
        self._statuses = statuses
        self._events = events
        self._log_drivers = sorted(log_drivers)
        self._network_drivers = sorted(network_drivers)
        self._volume_drivers = sorted(volume_drivers)

    async def Info(self, request: pb.HostInfoRequest, context: Context) -> pb.HostInfoResponse:
        """Say what there is and what was chosen because of it."""
        tally = Counter(self._statuses())
        runtimes = self._installed.runtimes
        return pb.HostInfoResponse(
            default_runtime=runtimes.default,
            runtimes=[
                pb.HostInfoResponse.Runtime(
                    name=one.name, path=one.path, version=one.version, usable=one.usable, reason=one.reason
                )
                for one in runtimes.found
            ],
            cgroup_version=self._host.layout.version,
            cgroup_layout=self._host.layout.value,
            security_options=security_options(self._host),
            warnings=warnings(self._host, self._installed),
            containers_running=tally[Status.RUNNING] + tally[Status.RESTARTING],
            containers_paused=tally[Status.PAUSED],
            containers_stopped=tally[Status.CREATED] + tally[Status.EXITED] + tally[Status.DEAD],
            conmon_version=self._installed.conmon_version,
            log_drivers=self._log_drivers,
            network_drivers=self._network_drivers,
            volume_drivers=self._volume_drivers,
            events=self._events.published,
        )
