"""runtimed: containers, execs, networks, volumes, events. Wiring and life; the only file that knows every other."""

import asyncio
import os
import random
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from runtimed import joins
from runtimed.background import Background
from runtimed.bundle.builder import OciBundles
from runtimed.bundle.init import find_init
from runtimed.bundle.resources import oci_resources
from runtimed.cgroups.reader import CgroupReader
from runtimed.conmon import Conmon, RuntimeCommand
from runtimed.container_metrics import ContainerCollector
from runtimed.containers import Containers
from runtimed.containers_servicer import ContainersServicer
from runtimed.events import Event, Events
from runtimed.events_servicer import EventsServicer
from runtimed.execs import Execs
from runtimed.execs_servicer import ExecsServicer
from runtimed.health import HealthChecks
from runtimed.host import read_host
from runtimed.lifecycle import Lifecycle
from runtimed.logoptions import DRIVERS
from runtimed.metrics import Metrics
from runtimed.network.names import KernelNames
from runtimed.network.networks import Networks
from runtimed.network.nftables import Nftables
from runtimed.network.registry import NetworkRegistry
from runtimed.network.stack import NetworkStack
from runtimed.network_servicer import NetworksServicer
from runtimed.observation import Observation
from runtimed.oci_runtime import OciRuntime
from runtimed.paths import Paths
from runtimed.records import Records
from runtimed.recovery import Recovery
from runtimed.registry import Registry
from runtimed.removal import Removal
from runtimed.runner import LinuxMounter, Parts, Runner
from runtimed.runtimes import find_runtimes
from runtimed.snapshots_client import SnapshotsClient
from runtimed.stats import Stats
from runtimed.store import ContainerStore
from runtimed.streams import Streams
from runtimed.volume_servicer import VolumesServicer
from runtimed.volume_store import VolumeStore
from runtimed.volumes import LocalVolumes
from runtimed.waits import Waits
from sampan.api.runtime.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    execs_pb2,
    execs_pb2_grpc,
    networks_pb2,
    networks_pb2_grpc,
    volumes_pb2,
    volumes_pb2_grpc,
)
from sampan.service import harness
from sampan.service.config import ServiceConfig, option
from sampan.store import Store
from sampan.wire.channel import open_channel


@dataclass(frozen=True, slots=True)
class RuntimedConfig(ServiceConfig):
    """What runtimed can be told."""

    runtime: str = option(
        "auto", 'OCI runtime for containers that ask for none; "auto": crun where it works, else runc'
    )
    conmon_path: str = option("", "conmon to use; empty: the one on $PATH")
    init_path: str = option("", "init program for --init; empty: the one that is installed")
    snapshotter_socket: str = option("", "socket of the snapshotter; empty: the engine's own")


class Core:
    """runtimed's objects, made in the order in which they need each other."""

    def __init__(self, service: harness.Service[RuntimedConfig], store: Store, past: list[Event]) -> None:
        config, layout = service.config, service.layout
        self.service = service
        self.store = store
        self.paths = Paths(layout.data("runtimed"), layout.run("runtimed"))
        self.paths.make()
        self.rows = ContainerStore(store)
        self.registry = Registry(self.rows, random.SystemRandom())
        self.events = Events(self.rows, past)
        self.background = Background()
        self.metrics = Metrics(service.metrics, lambda: [entry.status for entry in self.registry])
        self.host = read_host()
        self.available = find_runtimes(
            self.host,
            scratch=self.paths.run,
            cache=self.paths.data / "runtimes.json",
            cgroup_parent=layout.kernel_name,
            preferred=config.runtime,
        )
        self.runtimes = {
            runtime.name: OciRuntime(
                runtime.name, RuntimeCommand(Path(runtime.path), self.paths.oci_root(runtime.name)), os.environ
            )
            for runtime in self.available.found
        }
        self.bundles = OciBundles(
            self.host, cgroup_parent=layout.kernel_name, runtimes=self.available.names, log_drivers=DRIVERS
        )
        self.conmon = Conmon(Path(config.conmon_path or shutil.which("conmon") or "conmon"), os.environ)
        self.records = Records(self.registry, self.paths)
        self.mounter = LinuxMounter()
        self.volumes = LocalVolumes(self.paths.data / "volumes", VolumeStore(store), self.publish)
        self.snapshots = SnapshotsClient(self._snapshotter())
        self.network = NetworkStack(
            names=KernelNames.of(layout),
            run=layout.run("runtimed") / "network",
            registry=NetworkRegistry(store),
            table=Nftables(),
            publish=self.publish,
        )

    def _snapshotter(self) -> grpc.aio.Channel:
        own = self.service.config.snapshotter_socket
        channel = open_channel(Path(own) if own else self.service.layout.socket("snapshotter"))
        self.service.stack.push_async_callback(channel.close)
        return channel

    def publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Publish what happened to networks and volumes."""
        self.events.publish(Event(type, action, actor_id, attributes))

    def _observation(self) -> Observation:
        reader = CgroupReader(self.host.trees)
        self.service.metrics.register(
            ContainerCollector(lambda: [entry.container for entry in self.registry], reader, self.host)
        )
        return Observation(self.registry, reader, Stats(reader, self.host), os.environ, self.service.stopping)

    async def run(self) -> None:
        """Recover, then register everything that is served."""
        service, stack = self.service, self.service.stack
        stack.push_async_callback(self.background.close)
        self.records.networking = await stack.enter_async_context(self.network)
        await self.volumes.recover()
        await self.registry.load()
        writer = asyncio.create_task(self.events.write_behind(), name="event journal")
        stack.push_async_callback(_end, writer)
        parts = Parts(
            self.snapshots,
            self.network,
            self.volumes,
            self.bundles,
            self.mounter,
            lambda container: joins.joins_of(container, self.registry, self.paths),
        )
        init_path = service.config.init_path or find_init()
        runner = Runner(self.paths, self.conmon, self.runtimes, parts, self.metrics, init_path)
        execs = Execs(
            self.registry, self.rows, runner, self.bundles, self.conmon, self.events, self.background, self.paths,
            service.stopping,
        )  # fmt: skip
        removal = Removal(self.registry, runner, self.volumes, self.events, self.paths, execs.forget_container)
        health = HealthChecks(
            self.registry, runner, self.bundles, self.conmon, self.events, self.background, self.paths
        )
        lifecycle = Lifecycle(
            self.registry, runner, removal, self.events, self.metrics, self.background, self.paths, health.watch
        )
        recovery = Recovery(
            self.registry, lifecycle, removal, runner, self.network, self.snapshots, self.mounter, self.background,
            self.paths,
        )  # fmt: skip
        await recovery.run()
        await execs.recover()
        self._serve(runner, execs, removal, lifecycle)

    def _serve(self, runner: Runner, execs: Execs, removal: Removal, lifecycle: Lifecycle) -> None:
        service = self.service
        containers = Containers(
            self.registry, lifecycle, removal, runner, self.snapshots, self.network, self.volumes, self.bundles,
            self.events, self.background, self.paths,
            choose_runtime=lambda name: self.available.choose(name).name,
            limits=lambda resources: _limits_alone(oci_resources(resources, self.host, [])),
        )  # fmt: skip
        streams = Streams(self.paths, self.events, self.background, service.stopping)
        service.serve(
            containers_pb2_grpc.add_ContainersServicer_to_server,
            ContainersServicer(
                self.registry,
                containers,
                lifecycle,
                Waits(service.stopping),
                streams,
                execs,
                self._observation(),
                self.paths,
            ),
            containers_pb2.DESCRIPTOR.services_by_name["Containers"],
        )
        service.serve(
            execs_pb2_grpc.add_ExecsServicer_to_server,
            ExecsServicer(self.registry, execs),
            execs_pb2.DESCRIPTOR.services_by_name["Execs"],
        )
        service.serve(
            events_pb2_grpc.add_EventsServicer_to_server,
            EventsServicer(self.events, service.stopping),
            events_pb2.DESCRIPTOR.services_by_name["Events"],
        )
        service.serve(
            networks_pb2_grpc.add_NetworksServicer_to_server,
            NetworksServicer(Networks(self.network, self.records)),
            networks_pb2.DESCRIPTOR.services_by_name["Networks"],
        )
        service.serve(
            volumes_pb2_grpc.add_VolumesServicer_to_server,
            VolumesServicer(self.volumes),
            volumes_pb2.DESCRIPTOR.services_by_name["Volumes"],
        )


def _limits_alone(resources: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in resources.items() if name != "devices"}


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def build(service: harness.Service[RuntimedConfig]) -> None:
    """Recover, and register what is served."""
    store = await service.stack.enter_async_context(
        Store(service.layout.data("runtimed") / "metadata.db", "runtimed.schema")
    )
    await Core(service, store, await ContainerStore(store).events()).run()


def main() -> int:
    """Run the service; return its exit code."""
    return harness.run("runtimed", RuntimedConfig, build)


if __name__ == "__main__":
    sys.exit(main())
