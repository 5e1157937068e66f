"""What a container uses in the shape that Docker's clients know."""

from typing import Final

from sampan.docker.times import rfc3339
from sampan.resource.stats import ContainerStats, CpuSample, InterfaceSample, MemorySample

# What the kernel counts and Docker's clients look for beside bytes and operations; always there, here always empty.
_UNUSED_BLOCK_IO: Final = (
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def stats_json(sample: ContainerStats, version: tuple[int, int] = (1, 50)) -> dict[str, object]:
    """Return one sample in Docker's shape."""
    result: dict[str, object] = {
        "name": f"/{sample.name.removeprefix('/')}",
        "id": sample.id,
        "read": rfc3339(sample.read),
        "preread": rfc3339(sample.previous_read),
        "pids_stats": _pids(sample),
        "blkio_stats": _block_io(sample),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(sample.cpu),
        "precpu_stats": _cpu(sample.previous_cpu),
        "memory_stats": _memory(sample.memory),
    }
    if version >= (1, 52):
        result["os_type"] = "linux"
    if sample.networks:
        result["networks"] = {name: _interface(counters) for name, counters in sample.networks.items()}
    return result


def _pids(sample: ContainerStats) -> dict[str, int]:
    pids = {"current": sample.pids} if sample.pids else {}
    return pids | ({"limit": sample.pids_limit} if sample.pids_limit else {})


def _cpu(cpu: CpuSample) -> dict[str, object]:
    result: dict[str, object] = {
        "cpu_usage": {
            "total_usage": cpu.usage_ns,
            **({"percpu_usage": list(cpu.percpu_ns)} if cpu.percpu_ns else {}),
            "usage_in_kernelmode": cpu.kernel_ns,
            "usage_in_usermode": cpu.user_ns,
        },
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    }
    if cpu.system_ns:
        result["system_cpu_usage"] = cpu.system_ns
    if cpu.online_cpus:
        result["online_cpus"] = cpu.online_cpus
    return result


def _memory(memory: MemorySample) -> dict[str, object]:
    result: dict[str, object] = {}
    if memory.usage_bytes:
        result["usage"] = memory.usage_bytes
    if memory.max_usage_bytes:
        result["max_usage"] = memory.max_usage_bytes
    if memory.stats:
        result["stats"] = dict(memory.stats)
    if memory.failcnt:
        result["failcnt"] = memory.failcnt
    if memory.limit_bytes:
        result["limit"] = memory.limit_bytes
    return result


def _interface(counters: InterfaceSample) -> dict[str, int]:
    return {
        "rx_bytes": counters.rx_bytes,
        "rx_packets": counters.rx_packets,
        "rx_errors": counters.rx_errors,
        "rx_dropped": counters.rx_dropped,
        "tx_bytes": counters.tx_bytes,
        "tx_packets": counters.tx_packets,
        "tx_errors": counters.tx_errors,
        "tx_dropped": counters.tx_dropped,
    }


def _block_io(sample: ContainerStats) -> dict[str, object]:
    def rows(field: str) -> list[dict[str, object]]:
        return [
            {"major": io.major, "minor": io.minor, "op": io.operation, "value": getattr(io, field)}
            for io in sample.block_io
        ]

    # Cgroups of version 1, which alone count by processor, have a list of each, and others none of what they have not.
    nothing: list[object] | None = [] if sample.cpu.percpu_ns else None
    return {
        "io_service_bytes_recursive": rows("bytes") or nothing,
        "io_serviced_recursive": rows("operations") or nothing,
        **dict.fromkeys(_UNUSED_BLOCK_IO, nothing),
    }
