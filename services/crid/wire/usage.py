"""What pods and containers use as messages, which are filled where they lie in the answer.

A message that is given to the constructor of another one is copied with all that is in it, once for each level above.
"""

from collections.abc import Sequence
from typing import Final

from crid.cni.kernel import Counters
from crid.cni.model import INTERFACE
from crid.stats.series import Metric
from crid.stats.usage import LOOPBACK, ContainerUse, PodUse
from crid.wire import convert
from sampan.api.cri.v1 import stats_pb2 as pb
from sampan.resource.stats import ContainerSample, Pressure, Stall

_NS: Final = 1_000_000_000
_US: Final = 1_000


def fill_pod(made: pb.PodSandboxStats, use: PodUse, layers: str) -> None:
    """Say what a pod uses, with its containers; how long it waits is known of a cgroup, and of no sum.

    ``layers`` is the directory that containers write below.
    """
    config, own, samples = use.sandbox.config, use.own, use.samples
    made.attributes.id = use.sandbox.id
    made.attributes.metadata.CopyFrom(convert.POD_METADATA.encode(config.metadata))
    convert.fill_map(made.attributes.labels, config.labels)
    convert.fill_map(made.attributes.annotations, config.annotations)
    linux = made.linux
    _fill_cpu(linux.cpu, use.read_ns, use.cpu_ns, use.nano_cores)
    _fill_memory(linux.memory, use.read_ns, samples, use.memory_limit_bytes)
    if own is not None:
        _fill_pressure(linux, use.read_ns, own)
    if use.interfaces is not None:
        _fill_network(linux.network, use.read_ns, use.interfaces)
    linux.process.timestamp = use.read_ns
    linux.process.process_count.value = sum([sample.pids for sample in samples])
    for each in use.containers:
        fill_container(linux.containers.add(), each, layers)


def fill_container(made: pb.ContainerStats, use: ContainerUse, layers: str) -> None:
    """Say what a container uses, or only which one it is if it does not run."""
    record, sample = use.record, use.sample
    made.attributes.id = record.id
    made.attributes.metadata.CopyFrom(convert.CONTAINER_METADATA.encode(record.config.metadata))
    convert.fill_map(made.attributes.labels, record.config.labels)
    convert.fill_map(made.attributes.annotations, record.config.annotations)
    if sample is None:
        return
    read = int(sample.read.timestamp() * _NS)
    _fill_cpu(made.cpu, read, sample.cpu_usage_ns, use.nano_cores)
    _fill_memory(made.memory, read, (sample,), sample.memory_limit_bytes)
    _fill_pressure(made, read, sample)
    made.swap.timestamp = read
    made.swap.swap_usage_bytes.value = sample.swap_usage_bytes
    if sample.swap_limit_bytes:
        made.swap.swap_available_bytes.value = max(0, sample.swap_limit_bytes - sample.swap_usage_bytes)
    if sample.layer_read is not None:
        layer = made.writable_layer
        layer.timestamp = int(sample.layer_read.timestamp() * _NS)
        layer.fs_id.mountpoint = layers
        layer.used_bytes.value = sample.layer_bytes
        layer.inodes_used.value = sample.layer_inodes


def fill_metric(made: pb.Metric, metric: Metric) -> None:
    """Say one series' value."""
    made.name = metric.name
    made.metric_type = pb.COUNTER if metric.is_counter else pb.GAUGE
    made.label_values.extend(metric.labels)
    made.value.value = metric.value


def _fill_cpu(made: pb.CpuUsage, read_ns: int, usage_ns: int, nano_cores: int | None) -> None:
    made.timestamp = read_ns
    made.usage_core_nano_seconds.value = usage_ns
    if nano_cores is not None:
        made.usage_nano_cores.value = nano_cores


def _fill_memory(made: pb.MemoryUsage, read_ns: int, samples: Sequence[ContainerSample], limit_bytes: int) -> None:
    """Say the memory of containers together, or of their pod; what they may still take is known with a limit."""
    working_set = sum([each.working_set_bytes for each in samples])
    made.timestamp = read_ns
    made.working_set_bytes.value = working_set
    made.usage_bytes.value = sum([each.memory_usage_bytes for each in samples])
    made.rss_bytes.value = sum([each.rss_bytes for each in samples])
    made.page_faults.value = sum([each.page_faults for each in samples])
    made.major_page_faults.value = sum([each.major_page_faults for each in samples])
    if limit_bytes:
        made.available_bytes.value = max(0, limit_bytes - working_set)


def _fill_pressure(made: pb.LinuxPodSandboxStats | pb.ContainerStats, read_ns: int, sample: ContainerSample) -> None:
    """Say how long a cgroup waits, as far as that is known; it is all that CRI has of I/O."""
    if sample.cpu_pressure is not None:
        _fill_psi(made.cpu.psi, sample.cpu_pressure)
    if sample.memory_pressure is not None:
        _fill_psi(made.memory.psi, sample.memory_pressure)
    if sample.io_pressure is not None:
        made.io.timestamp = read_ns
        _fill_psi(made.io.psi, sample.io_pressure)


def _fill_psi(made: pb.PsiStats, pressure: Pressure) -> None:
    _fill_stall(made.Full, pressure.full)
    _fill_stall(made.Some, pressure.some)


def _fill_stall(made: pb.PsiData, stall: Stall) -> None:
    made.Total = stall.total_us * _US
    made.Avg10, made.Avg60, made.Avg300 = stall.avg10, stall.avg60, stall.avg300


def _fill_network(made: pb.NetworkUsage, read_ns: int, interfaces: Sequence[Counters]) -> None:
    made.timestamp = read_ns
    for each in interfaces:
        if each.interface == INTERFACE:
            _fill_interface(made.default_interface, each)
        elif each.interface != LOOPBACK:
            _fill_interface(made.interfaces.add(), each)


def _fill_interface(made: pb.NetworkInterfaceUsage, counters: Counters) -> None:
    made.name = counters.interface
    made.rx_bytes.value = counters.received_bytes
    made.rx_errors.value = counters.received_errors
    made.tx_bytes.value = counters.sent_bytes
    made.tx_errors.value = counters.sent_errors
