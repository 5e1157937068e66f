"""Put crid together and run it."""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crid.cni.chain import Chain
from crid.cni.kernel import bring_up_loopback, read_counters
from crid.cni.networks import PodNetworks
from crid.cni.process import Programs
from crid.cni.records import StoredAttachmentRecords
from crid.cni.watch import Configuration
from crid.containers.containers import Containers, Selection
from crid.containers.events import PodEvents
from crid.containers.members import RuntimeMembers
from crid.containers.model import OWNER
from crid.containers.store import ContainerStore
from crid.handlers import Handlers
from crid.images.images import PodImages
from crid.metrics import CriMetrics
from crid.sandboxes.host import SandboxHost
from crid.sandboxes.sandboxes import Parts, Sandboxes
from crid.sandboxes.store import SandboxStore
from crid.sandboxes.watch import ENDED, InfraWatch
from crid.stats.usage import Usages
from crid.streaming.runtime import EngineProcesses, SandboxPorts
from crid.streaming.server import StreamingServer
from crid.streaming.tokens import Tokens
from crid.wire import convert
from crid.wire.container_servicer import ContainerServicer
from crid.wire.events_servicer import EventsServicer
from crid.wire.image_servicer import ImageServicer
from crid.wire.runtime_servicer import RuntimeServicer
from crid.wire.sandbox_servicer import SandboxServicer
from crid.wire.services import image_service, runtime_service
from crid.wire.stats_servicer import StatsServicer
from crid.wire.streaming_servicer import StreamingServicer
from sampan.client.services import Services
from sampan.engine import following
from sampan.resource.event import Event
from sampan.service.config import ServiceConfig, option
from sampan.service.harness import Service, run
from sampan.service.listening import load_certificate, parse_address
from sampan.service.set_aside import SetAside
from sampan.sys import netns

NAME: Final = "crid"

_REACH_S: Final = 20.0  # the services that this one needs start before it, or beside it


@dataclass(frozen=True, slots=True)
class CriConfig(ServiceConfig):
    """What crid can be told."""

    runtime_handlers: tuple[str, ...] = option((), "runtime handlers beside those named as runtimes are: NAME=RUNTIME")
    pinned_images: tuple[str, ...] = option((), "images that kubelet's garbage collection leaves, with * for anything")
    stream_listen: str = option("127.0.0.1:0", "host:port of the streaming server, where kubelet's URLs lead to")
    stream_tls_cert: str = option("", "certificate chain of the streaming server; with stream_tls_key")
    stream_tls_key: str = option("", "key of the certificate")
    stream_idle_s: float = option(14400.0, "seconds that a streaming session may be silent")
    cni_conf_dir: Path = option(Path("/etc/cni/net.d"), "directory of the network configuration")
    cni_bin_dirs: tuple[str, ...] = option(("/opt/cni/bin", "/usr/lib/cni"), "directories of CNI plugins")
    cni_timeout_s: float = option(60.0, "seconds that one CNI plugin may take")


async def build(service: Service[CriConfig]) -> None:
    """Recover, and register everything."""
    config, layout, stack = service.config, service.layout, service.stack
    engine = await stack.enter_async_context(Services.connect(layout, waits=True))
    await engine.reach(_REACH_S)
    info = await engine.host.info()
    handlers = Handlers.of(config.runtime_handlers, info)
    store = await service.open_store(layout.data(NAME) / "crid.db", "crid.schema")
    service.set_aside.count_in(service.metrics, ("sandbox", "container", "network"))

    configuration = await stack.enter_async_context(Configuration(config.cni_conf_dir))
    metrics = CriMetrics(service.metrics)
    programs = Programs([Path(each) for each in config.cni_bin_dirs])
    chain = Chain(programs, metrics, config.cni_timeout_s, layout.run(NAME) / "cni")
    networks = PodNetworks(lambda: configuration.network, chain, StoredAttachmentRecords(store), netns.exists)
    stack.push_async_callback(networks.close)
    configuration.on_change(networks.changed)

    host = SandboxHost(layout.run(NAME) / "sandboxes", bring_up_loopback)
    records = ContainerStore(store, convert.container_bytes, convert.container_of)
    kept = SandboxStore(store, convert.pod_of)
    members = RuntimeMembers(engine.containers, records, host.places)
    parts = Parts(
        kept, host, host.places, networks, members, handlers.names, time.time_ns,
        info.cgroup_driver or "cgroupfs", metrics.phase,
    )  # fmt: skip
    sandboxes = Sandboxes(parts)
    containers = Containers(engine, records, sandboxes, members, handlers, time.time_ns)
    unread = {"sandbox": await kept.load(), "container": await records.load()}
    await _recover(service.set_aside, unread, networks, sandboxes, containers)

    def ends() -> AsyncGenerator[Event | None, None]:
        return following.events(engine.runtime, filters={"event": (ENDED,)}, owner=OWNER)

    watch = InfraWatch(ends, sandboxes, members.is_held, engine.reconnected)
    await stack.enter_async_context(watch)
    events = PodEvents(
        lambda: following.events(engine.runtime, owner=OWNER), records, sandboxes.everything(), time.time_ns
    )
    kept.on_change = events.changed
    metrics.watch_networks(networks)

    async def states() -> list[str]:
        return [view.state.value for view in await containers.select(Selection())]

    metrics.watch_states(lambda: [each.state.value for each in sandboxes.everything()], states)

    streams = await _listen(service, engine, SandboxPorts(sandboxes.network_of))
    layers = layout.data("snapshotter")
    usages = Usages(
        engine.containers,
        sandboxes,
        records,
        lambda sandbox: host.places(sandbox).namespace("net"),
        read_counters,
        time.time_ns,
    )
    service.serve(
        runtime_service(
            RuntimeServicer(engine.host, networks, handlers),
            StatsServicer(usages, containers, layers),
            EventsServicer(events, sandboxes, containers),
            SandboxServicer(sandboxes, containers),
            ContainerServicer(containers, engine.execs),
            StreamingServicer(streams, containers),
        )
    )
    service.serve(image_service(ImageServicer(PodImages(engine, config.pinned_images, layers))))


async def _recover(
    set_aside: SetAside,
    unread: Mapping[str, Mapping[str, str]],
    networks: PodNetworks,
    sandboxes: Sandboxes,
    containers: Containers,
) -> None:
    """Put in order what the last life has left; ``unread`` are records that cannot be read, by kind, and why."""
    for kind, found in unread.items():
        for name, reason in found.items():
            set_aside.add(kind, name, reason)
    # What belongs to a record that cannot be read may well live.
    spared = unread["sandbox"]
    for name, reason in (await networks.recover([*sandboxes.networked(), *spared])).items():
        set_aside.add("network", name, reason)
    for name, reason in (await sandboxes.recover(spared)).items():
        set_aside.add("sandbox", name, reason)
    await containers.recover(thorough=not any(unread.values()))


async def _listen(service: Service[CriConfig], engine: Services, ports: SandboxPorts) -> StreamingServer:
    """Serve streams of pods at the configured address, until the service ends."""
    config = service.config
    processes = EngineProcesses(engine.containers, engine.execs)
    streams = StreamingServer(Tokens(time.monotonic), processes, ports, service.metrics, config.stream_idle_s)
    service.stack.push_async_callback(streams.close)
    tls = load_certificate(config.stream_tls_cert, config.stream_tls_key)
    await streams.listen(parse_address(config.stream_listen), tls)
    return streams


def main() -> int:
    """Run the service."""
    return run(NAME, CriConfig, build)
