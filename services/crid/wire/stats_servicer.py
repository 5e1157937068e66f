"""What ``RuntimeService`` says of usage: decode, one call, encode."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from crid.cni.kernel import Counters
from crid.cni.model import INTERFACE
from crid.containers.containers import Containers, Selection
from crid.stats import series
from crid.stats.usage import LOOPBACK, ContainerUse, PodUse, Usages, Wanted
from crid.wire import convert
from sampan.api.cri.v1 import stats_pb2 as pb
from sampan.errors import InvalidArgumentError
from sampan.resource.stats import ContainerSample, Pressure, Stall

Context = grpc.aio.ServicerContext[Any, Any]

# What one message of a stream has: a pod's metrics are some ten kilobytes.
PAGE: Final = 32

_NS: Final = 1_000_000_000
_US: Final = 1_000


class StatsServicer:
    """Usage of pods and containers."""

    def __init__(self, usages: Usages, containers: Containers, layers: Path) -> None:
        """``layers`` is the directory that containers write below."""
        self._usages = usages
        self._containers = containers
        self._layers = layers

    async def ContainerStats(self, request: pb.ContainerStatsRequest, context: Context) -> pb.ContainerStatsResponse:
        """Return one's."""
        if not request.container_id:
            raise InvalidArgumentError("container_id is empty")
        return pb.ContainerStatsResponse(stats=self._container(await self._usages.container(request.container_id)))

    async def ListContainerStats(
        self, request: pb.ListContainerStatsRequest, context: Context
    ) -> pb.ListContainerStatsResponse:
        """Return those asked for."""
        return pb.ListContainerStatsResponse(stats=await self._of_containers(request.filter))

    async def StreamContainerStats(
        self, request: pb.StreamContainerStatsRequest, context: Context
    ) -> AsyncIterator[pb.StreamContainerStatsResponse]:
        """Yield those asked for."""
        found = await self._of_containers(request.filter)
        for begin in range(0, len(found), PAGE):
            yield pb.StreamContainerStatsResponse(container_stats=found[begin : begin + PAGE])

    async def PodSandboxStats(self, request: pb.PodSandboxStatsRequest, context: Context) -> pb.PodSandboxStatsResponse:
        """Return one's."""
        if not request.pod_sandbox_id:
            raise InvalidArgumentError("pod_sandbox_id is empty")
        return pb.PodSandboxStatsResponse(stats=self._pod(await self._usages.pod(request.pod_sandbox_id)))

    async def ListPodSandboxStats(
        self, request: pb.ListPodSandboxStatsRequest, context: Context
    ) -> pb.ListPodSandboxStatsResponse:
        """Return those asked for."""
        return pb.ListPodSandboxStatsResponse(stats=await self._of_pods(request.filter))

    async def StreamPodSandboxStats(
        self, request: pb.StreamPodSandboxStatsRequest, context: Context
    ) -> AsyncIterator[pb.StreamPodSandboxStatsResponse]:
        """Yield those asked for."""
        found = await self._of_pods(request.filter)
        for begin in range(0, len(found), PAGE):
            yield pb.StreamPodSandboxStatsResponse(pod_sandbox_stats=found[begin : begin + PAGE])

    async def ListMetricDescriptors(
        self, request: pb.ListMetricDescriptorsRequest, context: Context
    ) -> pb.ListMetricDescriptorsResponse:
        """Return what metrics there are."""
        return pb.ListMetricDescriptorsResponse(
            descriptors=[
                pb.MetricDescriptor(name=name, help=meaning, label_keys=labels)
                for name, meaning, labels in series.descriptors()
            ]
        )

    async def ListPodSandboxMetrics(
        self, request: pb.ListPodSandboxMetricsRequest, context: Context
    ) -> pb.ListPodSandboxMetricsResponse:
        """Return the metrics of all pods."""
        return pb.ListPodSandboxMetricsResponse(pod_metrics=await self._metrics())

    async def StreamPodSandboxMetrics(
        self, request: pb.StreamPodSandboxMetricsRequest, context: Context
    ) -> AsyncIterator[pb.StreamPodSandboxMetricsResponse]:
        """Yield the metrics of all pods."""
        found = await self._metrics()
        for begin in range(0, len(found), PAGE):
            yield pb.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=found[begin : begin + PAGE])

    async def _of_containers(self, asked: pb.ContainerStatsFilter) -> Sequence[pb.ContainerStats]:
        wanted = Wanted(asked.id, asked.pod_sandbox_id, dict(asked.label_selector))
        return [self._container(use) for use in await self._usages.containers(wanted)]

    async def _of_pods(self, asked: pb.PodSandboxStatsFilter) -> Sequence[pb.PodSandboxStats]:
        wanted = Wanted(asked.id, labels=dict(asked.label_selector))
        return [self._pod(use) for use in await self._usages.pods(wanted)]

    async def _metrics(self) -> Sequence[pb.PodSandboxMetrics]:
        pods, views, filesystem = await asyncio.gather(
            self._usages.pods(Wanted(), detailed=True),
            self._containers.select(Selection()),
            asyncio.to_thread(series.filesystem_of, self._layers),
        )
        started = {view.record.id: view.started_ns for view in views}
        return [
            pb.PodSandboxMetrics(
                pod_sandbox_id=pod.sandbox.id,
                metrics=map(_metric, series.of_pod(pod)),
                container_metrics=[
                    pb.ContainerMetrics(
                        container_id=row.record.id if row.record else "",
                        metrics=map(_metric, series.of_container(pod, row)),
                    )
                    for row in series.rows(pod, started, filesystem)
                ],
            )
            for pod in pods
        ]

    def _pod(self, use: PodUse) -> pb.PodSandboxStats:
        return pod_to_proto(use, map(self._container, use.containers))

    def _container(self, use: ContainerUse) -> pb.ContainerStats:
        record, sample = use.record, use.sample
        attributes = pb.ContainerAttributes(
            id=record.id,
            metadata=convert.CONTAINER_METADATA.encode(record.config.metadata),
            labels=record.config.labels,
            annotations=record.config.annotations,
        )
        if sample is None:
            return pb.ContainerStats(attributes=attributes)
        read = _ns(sample)
        made = pb.ContainerStats(
            attributes=attributes,
            cpu=_cpu(read, sample.cpu_usage_ns, use.nano_cores, sample.cpu_pressure),
            memory=_memory(read, [sample], sample.memory_limit_bytes, sample.memory_pressure),
            io=_io(read, sample.io_pressure),
            swap=pb.SwapUsage(timestamp=read, swap_usage_bytes=_number(sample.swap_usage_bytes)),
        )
        if sample.swap_limit_bytes:
            left = max(0, sample.swap_limit_bytes - sample.swap_usage_bytes)
            made.swap.swap_available_bytes.value = left
        if sample.layer_read is not None:
            made.writable_layer.CopyFrom(
                pb.FilesystemUsage(
                    timestamp=int(sample.layer_read.timestamp() * _NS),
                    fs_id=pb.FilesystemIdentifier(mountpoint=str(self._layers)),
                    used_bytes=_number(sample.layer_bytes),
                    inodes_used=_number(sample.layer_inodes),
                )
            )
        return made


def pod_to_proto(use: PodUse, containers: Iterable[pb.ContainerStats]) -> pb.PodSandboxStats:
    """Return what a pod uses, with its containers'; how long it waits is known of a cgroup, and of no sum."""
    config, own = use.sandbox.config, use.own
    return pb.PodSandboxStats(
        attributes=pb.PodSandboxAttributes(
            id=use.sandbox.id,
            metadata=convert.POD_METADATA.encode(config.metadata),
            labels=config.labels,
            annotations=config.annotations,
        ),
        linux=pb.LinuxPodSandboxStats(
            cpu=_cpu(use.read_ns, use.cpu_ns, use.nano_cores, None if own is None else own.cpu_pressure),
            memory=_memory(
                use.read_ns, use.samples, use.memory_limit_bytes, None if own is None else own.memory_pressure
            ),
            io=_io(use.read_ns, None if own is None else own.io_pressure),
            network=None if use.interfaces is None else _network(use.read_ns, use.interfaces),
            process=pb.ProcessUsage(
                timestamp=use.read_ns, process_count=_number(sum(sample.pids for sample in use.samples))
            ),
            containers=containers,
        ),
    )


def _number(value: int) -> pb.UInt64Value:
    return pb.UInt64Value(value=value)


def _ns(sample: ContainerSample) -> int:
    return int(sample.read.timestamp() * _NS)


def _cpu(read_ns: int, usage_ns: int, nano_cores: int | None, pressure: Pressure | None) -> pb.CpuUsage:
    return pb.CpuUsage(
        timestamp=read_ns,
        usage_core_nano_seconds=_number(usage_ns),
        usage_nano_cores=None if nano_cores is None else _number(nano_cores),
        psi=_psi(pressure),
    )


def _io(read_ns: int, pressure: Pressure | None) -> pb.IoUsage | None:
    """Return pressure, which is all that CRI has of I/O."""
    return None if pressure is None else pb.IoUsage(timestamp=read_ns, psi=_psi(pressure))


def _psi(pressure: Pressure | None) -> pb.PsiStats | None:
    return None if pressure is None else pb.PsiStats(Full=_stall(pressure.full), Some=_stall(pressure.some))


def _stall(stall: Stall) -> pb.PsiData:
    return pb.PsiData(Total=stall.total_us * _US, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300)


def _memory(
    read_ns: int, samples: Sequence[ContainerSample], limit_bytes: int, pressure: Pressure | None
) -> pb.MemoryUsage:
    """Return the memory of containers together, or of their pod; what they may still take is known with a limit."""
    working_set = sum(each.working_set_bytes for each in samples)
    made = pb.MemoryUsage(
        timestamp=read_ns,
        working_set_bytes=_number(working_set),
        usage_bytes=_number(sum(each.memory_usage_bytes for each in samples)),
        rss_bytes=_number(sum(each.rss_bytes for each in samples)),
        page_faults=_number(sum(each.page_faults for each in samples)),
        major_page_faults=_number(sum(each.major_page_faults for each in samples)),
        psi=_psi(pressure),
    )
    if limit_bytes:
        made.available_bytes.value = max(0, limit_bytes - working_set)
    return made


def _network(read_ns: int, interfaces: Sequence[Counters]) -> pb.NetworkUsage:
    default = next((each for each in interfaces if each.interface == INTERFACE), None)
    return pb.NetworkUsage(
        timestamp=read_ns,
        default_interface=None if default is None else _interface(default),
        interfaces=[_interface(each) for each in interfaces if each.interface not in (INTERFACE, LOOPBACK)],
    )


def _interface(counters: Counters) -> pb.NetworkInterfaceUsage:
    return pb.NetworkInterfaceUsage(
        name=counters.interface,
        rx_bytes=_number(counters.received_bytes),
        rx_errors=_number(counters.received_errors),
        tx_bytes=_number(counters.sent_bytes),
        tx_errors=_number(counters.sent_errors),
    )


def _metric(metric: series.Metric) -> pb.Metric:
    return pb.Metric(
        name=metric.name,
        metric_type=pb.COUNTER if metric.is_counter else pb.GAUGE,
        label_values=metric.labels,
        value=_number(metric.value),
    )
