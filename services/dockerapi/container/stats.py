"""GET /containers/{id}/stats."""

from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from dockerapi.http.call import Call, JsonStream, break_off, reply
from dockerapi.http.routing import Route
from dockerapi.http.times import NEVER, rfc3339
from sampan.api.runtime.v1 import containers_pb2
from sampan.engine import following
from sampan.errors import NotFoundError, SampanError

Sample = containers_pb2.StatsResponse

# What the kernel counts and Docker's clients look for beside bytes and operations; always there, here always empty.
_UNUSED_BLOCK_IO: Final = (
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


async def stats(call: Call) -> web.StreamResponse:
    """Send one sample a second, or one sample in all."""
    stream = call.flag("stream", default=True)
    request = containers_pb2.StatsRequest(
        container=call.args["id"], stream=stream, one_shot=call.flag("one-shot") and not stream
    )
    answer = JsonStream(call.request)
    async with aclosing(following.stats(call.engine, request)) as samples:
        try:
            async for sample in samples:
                if not stream:
                    return reply(stats_json(sample))
                await answer.write(stats_json(sample))
        except NotFoundError:  # removed in the middle
            if not answer.begun:
                raise
        except SampanError as error:
            if not answer.begun:
                raise
            break_off(call.request, error)
    if not stream:
        raise NotFoundError(f"No such container: {call.args['id']}")
    return await answer.end()


def stats_json(sample: Sample) -> dict[str, Any]:
    """Return one sample in Docker's shape."""
    result: dict[str, Any] = {
        "name": f"/{sample.name.removeprefix('/')}",
        "id": sample.id,
        "read": rfc3339(sample.read),
        "preread": rfc3339(sample.previous_read) if sample.HasField("previous_read") else NEVER,
        "pids_stats": _pids(sample),
        "blkio_stats": _block_io(sample),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(sample.cpu),
        "precpu_stats": _cpu(sample.previous_cpu),
        "memory_stats": _memory(sample.memory),
    }
    if sample.networks:
        result["networks"] = {name: _interface(counters) for name, counters in sample.networks.items()}
    return result


def _pids(sample: Sample) -> dict[str, int]:
    pids = {"current": sample.pids} if sample.pids else {}
    return pids | ({"limit": sample.pids_limit} if sample.pids_limit else {})


def _cpu(cpu: Sample.Cpu) -> dict[str, Any]:
    result: dict[str, Any] = {
        "cpu_usage": {
            "total_usage": cpu.usage_ns,
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


def _memory(memory: Sample.Memory) -> dict[str, Any]:
    result: dict[str, Any] = {}
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


def _interface(counters: Sample.Interface) -> dict[str, int]:
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


def _block_io(sample: Sample) -> dict[str, Any]:
    def rows(field: str) -> list[dict[str, Any]]:
        return [
            {"major": io.major, "minor": io.minor, "op": io.operation, "value": getattr(io, field)}
            for io in sample.block_io
        ]

    return {
        "io_service_bytes_recursive": rows("bytes") or None,
        "io_serviced_recursive": rows("operations") or None,
        **dict.fromkeys(_UNUSED_BLOCK_IO),
    }


ROUTES: Final = (Route("GET", "/containers/{id}/stats", stats, follows=True),)
