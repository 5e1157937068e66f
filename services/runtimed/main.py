"""runtimed: containers, execs, networks, volumes, events. Wiring and life; the only file that knows every other."""

import asyncio
import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from runtimed.archives.archives import Archives
from runtimed.cgroups.oom import OomNotices
from runtimed.cgroups.orphans import remove_idle, remove_parent
from runtimed.cgroups.reader import CgroupReader
from runtimed.configuration import RuntimedConfig
from runtimed.containers.memory_store import MemoryStore
from runtimed.containers.network_records import NetworkRecords
from runtimed.containers.operations import Containers
from runtimed.containers.paths import Paths
from runtimed.containers.snapshots import OwnSnapshots
from runtimed.containers.store import ContainerStore
from runtimed.events import Events
from runtimed.execs.operations import Execs
from runtimed.host.root import check_root
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.health import HealthChecks
from runtimed.lifecycle.joins import joins_of
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.oom import OomKills
from runtimed.lifecycle.recovery import Recovery
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.runner import Parts, Runner
from runtimed.lifecycle.shutdown import Shutdown
from runtimed.lifecycle.waits import Waits
from runtimed.local.containers import LocalContainers, LocalExecs
from runtimed.local.host import LocalEvents, LocalHost
from runtimed.local.networks import LocalNetworks
from runtimed.logs.keeping import LogKeeper
from runtimed.machine import Machine
from runtimed.metrics import Metrics
from runtimed.network.core.model import DRIVERS as NETWORK_DRIVERS
from runtimed.network.core.names import KernelNames
from runtimed.network.core.networks import Networks
from runtimed.network.core.stack import NetworkStack
from runtimed.network.core.store import NetworkStore
from runtimed.network.kernel.nftables import Nftables
from runtimed.network.planning.default_bridge import parse_default_options
from runtimed.network.planning.ipam import parse_default_pools
from runtimed.network.publish.keeping import KeptSockets
from runtimed.oci.resources import changed_resources
from runtimed.oci.rootfs import furnish_at
from runtimed.stats.bulk import LayerUsage, Samples
from runtimed.stats.container_labels import ContainerLabels
from runtimed.stats.container_metrics import ContainerSeries
from runtimed.stats.details import DetailReader
from runtimed.stats.disk_usage import RuntimeUsage
from runtimed.stats.observation import Observation
from runtimed.stats.sampling import Stats
from runtimed.steps.leftovers import Leftovers
from runtimed.steps.memory import MemoryEvents
from runtimed.steps.operations import StepParts, Steps
from runtimed.steps.snapshots import MountedSnapshots
from runtimed.steps.sources import Grants
from runtimed.streams.streams import Streams
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.plugins import Plugins
from runtimed.volumes.store import VolumeStore
from runtimed.wire.archives_servicer import ArchivesServicer
from runtimed.wire.containers_servicer import ContainersServicer
from runtimed.wire.events_servicer import EventsServicer
from runtimed.wire.execs_servicer import ExecsServicer
from runtimed.wire.handing import Handing
from runtimed.wire.host_servicer import HostServicer
from runtimed.wire.networks_servicer import NetworksServicer
from runtimed.wire.steps_servicer import StepsServicer
from runtimed.wire.volumes_servicer import VolumesServicer
from sampan.client.storage.snapshots import SnapshotsClient
from sampan.docker.options.logs import DRIVERS
from sampan.handing.desk import Desk
from sampan.resource.container import Status
from sampan.resource.event import Event
from sampan.service import harness
from sampan.service.disk_servicer import UsageServicer
from sampan.store.database import Store
from sampan.store.repair import is_incomplete
from sampan.sys.inotify import FileWatches
from sampan.wire.channel import open_channel

# Of what may be set aside at the start.
_KINDS: Final = ("container", "volume", "network", "sandbox", "leftover")


class Core:
    """runtimed's objects, made in the order in which they need each other."""

    def __init__(self, service: harness.Service[RuntimedConfig], store: Store, past: Sequence[Event]) -> None:
        config, layout = service.config, service.layout
        self.service, self.store = service, store
        self.paths = Paths(layout.data("runtimed"), layout.run("runtimed"))
        self.paths.make()
        self.rows = ContainerStore(store)
        self.lossy = is_incomplete(store.path)
        service.set_aside.count_in(service.metrics, _KINDS)
        self.memory = MemoryStore(self.rows, random.SystemRandom(), service.set_aside)
        self.events = Events(self.rows, past)
        self.background = Background()
        self.metrics = Metrics(service.metrics, self.statuses)
        self.metrics.watch_subscribers(self.events.subscribers)
        self.remapping = config.remapping
        self.machine = Machine(service, self.paths)
        self.host, self.cgroups, self.bundles = self.machine.facts, self.machine.cgroups, self.machine.bundles
        self.conmon, self.mounter, self.orphans = self.machine.conmon, self.machine.mounter, self.machine.orphans
        self.volumes = LocalVolumes(
            self.paths.data / "volumes",
            VolumeStore(store),
            self.publish,
            self.background,
            service.set_aside,
            Plugins(Path(config.plugin_socket_dir), tuple(map(Path, config.plugin_spec_dirs))),
        )
        self.snapshots = self._snapshots()
        self.network = self._network()
        self.records = NetworkRecords(self.memory, self.paths, self.network)
        self.logs = LogKeeper(self.paths, os.environ)
        self.runner = self._runner()
        self.execs = Execs(
            self.memory, self.rows, self.runner, self.bundles, self.conmon, self.events, self.background, self.paths,
            service.stopping,
        )  # fmt: skip
        self.removal = Removal(
            self.memory, self.runner, self.volumes, self.events, self.paths, self.execs.known.forget_container
        )
        health = HealthChecks(
            self.memory, self.runner, self.bundles, self.conmon, self.events, self.background, self.paths,
            self.metrics,
        )  # fmt: skip
        self.watches = FileWatches()
        notices = OomNotices(self.host.trees, self.watches)
        self.oom = OomKills(notices, self.events, self.paths)
        self.steps = self._steps(notices)
        self.lifecycle = Lifecycle(
            self.memory, self.runner, self.removal, self.events, self.metrics, self.background, self.paths,
            health.watch, self.oom,
        )  # fmt: skip
        self.shutdown = Shutdown(
            self.memory, self.lifecycle, live_restore=config.live_restore, timeout_s=config.shutdown_timeout_s
        )

    def statuses(self) -> list[Status]:
        """Return the state of every container."""
        return [entry.status for entry in self.memory]

    def publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Publish what happened to networks and volumes."""
        self.events.publish(Event(type, action, actor_id, attributes))

    def _network(self) -> NetworkStack:
        config, table = self.service.config, Nftables()
        self.service.rest.also(table.give_back)
        return NetworkStack(
            names=KernelNames.of(self.service.layout),
            run=self.paths.run / "network",
            store=NetworkStore(self.store),
            table=table,
            publish=self.publish,
            set_aside=self.service.set_aside,
            pools=parse_default_pools(config.default_address_pools),
            default_bridge=config.default_bridge,
            host_gateways=config.host_gateways,
            kept=KeptSockets(os.environ.get("NOTIFY_SOCKET", "")),
        )

    def _snapshots(self) -> OwnSnapshots:
        own = self.service.config.snapshotter_socket
        channel = open_channel(Path(own) if own else self.service.layout.socket("snapshotter"))
        self.service.stack.push_async_callback(channel.close)
        return OwnSnapshots(SnapshotsClient(channel, own=True))

    def _runner(self) -> Runner:
        parts = Parts(
            self.snapshots,
            self.network,
            self.volumes,
            self.bundles,
            self.mounter,
            lambda container: joins_of(container, self.memory, self.paths),
            self.orphans.clear,
            self.logs,
            furnish_at,
        )
        return Runner(self.paths, self.conmon, self.machine.oci_runtimes(), parts, self.metrics, self.machine.init_path)

    def _steps(self, notices: OomNotices) -> Steps:
        layout = self.service.layout
        parts = StepParts(
            MountedSnapshots(self.snapshots, self.mounter, self.paths),
            self.network,
            self.bundles,
            self.mounter,
            self.orphans,
            MemoryEvents(notices, next((tree for tree in self.host.trees if "memory" in tree.controllers), None)),
            Grants((layout.data("buildd"), layout.run("buildd")), (layout.run("buildd"),)),
            self.metrics,
        )
        return Steps(
            parts, self.paths, self.machine.step_runtime, os.environ, self.cgroups, self.service.stopping, self.watches
        )

    async def recover(self) -> None:
        """Open everything, and settle what an earlier process left behind."""
        stack = self.service.stack
        stack.callback(remove_parent, self.host.trees, self.service.layout.kernel_name)
        stack.callback(self.watches.close)
        stack.callback(self.oom.close)
        stack.push_async_callback(self.background.close)
        await stack.enter_async_context(self.network)
        await self.volumes.recover()
        await self.memory.load()
        recorder = asyncio.create_task(self.memory.write_behind(), name="records of containers")
        stack.push_async_callback(_end, recorder)
        writer = asyncio.create_task(self.events.write_behind(), name="event journal")
        stack.push_async_callback(_end, writer)
        await Leftovers(self.paths, self.mounter, self.orphans, self.service.set_aside, self.cgroups).clear()
        recovery = Recovery(
            self.memory, self.lifecycle, self.removal, self.runner, self.network, self.records, self.snapshots,
            self.mounter, self.background, self.paths, self.service.set_aside, self.orphans.end,
            lambda keep: remove_idle(self.host.trees, self.service.layout.kernel_name, keep),
            lossy=self.lossy,
        )  # fmt: skip
        stack.callback(self.logs.close)
        await self.logs.recover(self.memory)
        await recovery.run()
        await self.execs.recover()
        stack.push_async_callback(self._stop_containers)  # first of all, while everything is there

    async def _stop_containers(self) -> None:
        if self.service.told.is_set():
            await self.shutdown.run()

    def _containers(self) -> Containers:
        return Containers(
            self.memory, self.lifecycle, self.removal, self.runner, self.snapshots, self.network, self.volumes,
            self.bundles, self.events, self.background, self.paths,
            choose_runtime=lambda name: self.machine.runtimes.choose(name).name,
            limits=lambda resources: changed_resources(resources, self.host),
            defaults=self.service.config.defaults,
            remapping=self.remapping,
        )  # fmt: skip

    def _observation(self) -> Observation:
        reader = CgroupReader(self.host.trees)
        labels = ContainerLabels(self.service.config.metrics_labels)
        disks = (Path("/"), self.service.layout.data_root)
        series = ContainerSeries(lambda: [entry.container for entry in self.memory], reader, self.host, labels, disks)
        self.service.series.append(series.render)
        stats, stopping = Stats(reader, self.host), self.service.stopping
        return Observation(self.memory, reader, stats, os.environ, stopping, self.events.container)

    def _samples(self) -> Samples:
        layers = LayerUsage(self.snapshots, self.background)
        reader = CgroupReader(self.host.trees)
        return Samples(self.memory, reader, layers, DetailReader(reader), self.cgroups)

    async def serve(self) -> None:
        """Register everything that is served."""
        stopping = self.service.stopping
        streams = Streams(self.paths, self.events, self.background, stopping, self.logs.flush, self.watches)
        containers = self._containers()
        networks = Networks(self.network, self.records)
        networks.default_options = parse_default_options(self.service.config.default_network_opts)
        local = LocalContainers(
            self.memory, containers, self.lifecycle, Waits(stopping), streams, self.execs,
            self._observation(), self._samples(), self.paths, networks,
        )  # fmt: skip
        known = LocalHost(
            self.host,
            await self.machine.installed(),
            lambda: [entry.status for entry in self.memory if not entry.container.spec.owner],
            self.events,
            log_drivers=DRIVERS,
            network_drivers=NETWORK_DRIVERS,
            volume_drivers=self.volumes.drivers,
            choices=self.service.config.choices,
            cdi_spec_dirs=self.service.config.cdi_spec_dirs,
            address_pools=self.service.config.default_address_pools,
            remapped=self.remapping is not None,
            cgroup_driver=self.cgroups.driver.value,
        )

        def reload(config: RuntimedConfig) -> None:
            # What may be refused comes first: then nothing has changed.
            defaults, options = config.defaults, parse_default_options(config.default_network_opts)
            known.choices = config.choices
            containers.defaults, networks.default_options = defaults, options
            self.shutdown.live_restore = config.live_restore
            self.shutdown.timeout_s = config.shutdown_timeout_s

        self.service.reloads.append(reload)
        usage = RuntimeUsage(
            self.service.layout.data_root,
            self.paths.data,
            lambda: {entry.id: entry.container.name for entry in self.memory},
        )
        archives = Archives(self.memory, self.snapshots, self.paths, self.volumes.lender, self.events.container)
        self.service.stack.push_async_callback(archives.close)
        desk = Desk(self.service.layout.desk("runtimed"))
        self.service.stack.push_async_callback(desk.close)
        handing = Handing(self.service.layout.streams_socket)
        self.service.stack.push_async_callback(handing.close)
        for servicer in (
            ContainersServicer(local, handing),
            ArchivesServicer(archives, desk),
            ExecsServicer(LocalExecs(self.memory, self.execs), handing),
            StepsServicer(self.steps),
            EventsServicer(LocalEvents(self.events, stopping)),
            NetworksServicer(LocalNetworks(networks, self.metrics.network)),
            VolumesServicer(self.volumes),
            HostServicer(known),
            UsageServicer(usage.objects),
        ):
            self.service.serve(servicer)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def build(service: harness.Service[RuntimedConfig]) -> None:
    """Recover, and register what is served."""
    await check_root()
    store = await service.open_store(service.layout.data("runtimed") / "metadata.db", "runtimed.schema")
    core = Core(service, store, await ContainerStore(store).events())
    await core.recover()
    await core.serve()


def main() -> int:
    """Run the service; return its exit code."""
    return harness.run("runtimed", RuntimedConfig, build)


if __name__ == "__main__":
    sys.exit(main())
