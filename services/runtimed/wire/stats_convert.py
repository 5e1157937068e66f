"""Samples as protobuf."""

from runtimed.stats.netdev import Interface
from runtimed.stats.sampling import Reading, Sample
from runtimed.wire.convert import timestamp
from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.resource.container import Container


def sample_to_proto(container: Container, sample: Sample) -> pb.StatsResponse:
    """Return the message for one sample of ``container``."""
    reading = sample.reading
    usage = reading.usage
    return pb.StatsResponse(
        id=container.id,
        name=container.name,
        read=timestamp(reading.time),
        previous_read=timestamp(sample.previous.time) if sample.previous else None,
        cpu=_cpu(reading),
        previous_cpu=_cpu(sample.previous) if sample.previous else None,
        memory=pb.StatsResponse.Memory(
            usage_bytes=usage.memory.usage_bytes,
            max_usage_bytes=usage.memory.max_usage_bytes,
            limit_bytes=reading.memory_limit_bytes,
            stats=usage.memory.stats,
            failcnt=usage.memory.failures,
        ),
        networks={interface.name: _interface(interface) for interface in reading.networks},
        pids=usage.pids,
        pids_limit=usage.pids_limit,
        block_io=[
            pb.StatsResponse.BlockIo(
                major=io.major, minor=io.minor, operation=io.operation, bytes=io.bytes, operations=io.operations
            )
            for io in usage.block_io
        ],
    )


def _cpu(reading: Reading) -> pb.StatsResponse.Cpu:
    cpu = reading.usage.cpu
    return pb.StatsResponse.Cpu(
        usage_ns=cpu.usage_ns,
        user_ns=cpu.user_ns,
        kernel_ns=cpu.kernel_ns,
        system_ns=reading.system_ns,
        online_cpus=reading.online_cpus,
        periods=cpu.periods,
        throttled_periods=cpu.throttled_periods,
        throttled_ns=cpu.throttled_ns,
    )


def _interface(interface: Interface) -> pb.StatsResponse.Interface:
    return pb.StatsResponse.Interface(
        rx_bytes=interface.rx_bytes,
        rx_packets=interface.rx_packets,
        rx_errors=interface.rx_errors,
        rx_dropped=interface.rx_dropped,
        tx_bytes=interface.tx_bytes,
        tx_packets=interface.tx_packets,
        tx_errors=interface.tx_errors,
        tx_dropped=interface.tx_dropped,
    )
