"""``sampan stats``: what containers use."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from sampan.resource.stats import ContainerStats, MemorySample
    from sampan_cli.backend import ContainerBackend

_HEADERS: Final = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_TABLE: Final = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
_REFRESH_S: Final = 1.0
_CLEAR: Final = "\033[H\033[J"

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """The command line of ``sampan stats``."""

    containers: tuple[str, ...]
    all: bool
    no_stream: bool
    no_trunc: bool
    template: str


@sampan_command("stats", examples="sampan stats\nsampan stats --no-stream --format '{{.Name}} {{.CPUPerc}}' web")
@click.argument("containers", shell_complete=completing.containers, nargs=-1)
@click.option("--all", "-a", is_flag=True, help="Show all containers, not only running ones.")
@format_option
@click.option("--no-stream", is_flag=True, help="Print the first result and leave.")
@no_trunc_option
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Display a live stream of container(s) resource usage statistics, until Ctrl-C."""
    options = from_flags(StatsOptions, flags)
    session.run(lambda engine: show_stats(engine, options))


async def show_stats(engine: "ContainerBackend", options: StatsOptions) -> None:
    """Print a table once, or again every second."""
    from sampan.resource.listing import Selection

    names = options.containers
    if not names:
        listed = await engine.containers.list(Selection(options.all))
        names = tuple(container.id for container in listed)
    rows: dict[str, Row] = {}
    if options.no_stream:
        async with asyncio.TaskGroup() as readings:
            for name in names:
                readings.create_task(_follow(engine, name, options, rows, stream=False))
        _print(rows, names, options)
        return
    async with asyncio.TaskGroup() as readings:
        followers = [readings.create_task(_follow(engine, name, options, rows, stream=True)) for name in names]
        while not all(follower.done() for follower in followers):
            await asyncio.wait(followers, timeout=_REFRESH_S)
            click.echo(_CLEAR, nl=False)
            _print(rows, names, options)


async def _follow(
    engine: "ContainerBackend", name: str, options: StatsOptions, rows: dict[str, Row], *, stream: bool
) -> None:
    from contextlib import aclosing

    from sampan.engine import following

    async with aclosing(following.stats(engine, name, stream=stream)) as readings:
        async for reading in readings:
            rows[name] = stats_row(reading, name, trunc=not options.no_trunc)


def _print(rows: Mapping[str, Row], names: tuple[str, ...], options: StatsOptions) -> None:
    from sampan_cli.output.table import print_list

    print_list([rows[name] for name in names if name in rows], options.template, _HEADERS, _TABLE, click.echo)


def stats_row(reading: "ContainerStats", name: str, *, trunc: bool) -> Row:
    """Return one line: what a container used between its last two readings, and in total."""
    from sampan.docker.sizes import binary_size, human_size

    memory, limit = used_memory(reading.memory), reading.memory.limit_bytes
    received = sum(interface.rx_bytes for interface in reading.networks.values())
    sent = sum(interface.tx_bytes for interface in reading.networks.values())
    blocks = {"read": 0, "write": 0}
    for io in reading.block_io:
        if io.operation in blocks:
            blocks[io.operation] += io.bytes
    return {
        "Container": name,
        "ID": reading.id[:12] if trunc else reading.id,
        "Name": reading.name.lstrip("/"),
        "CPUPerc": f"{cpu_percent(reading):.2f}%",
        "MemUsage": f"{binary_size(memory)} / {binary_size(limit)}",
        "MemPerc": f"{100 * memory / limit if limit else 0:.2f}%",
        "NetIO": f"{human_size(received, 3)} / {human_size(sent, 3)}",
        "BlockIO": f"{human_size(blocks['read'], 3)} / {human_size(blocks['write'], 3)}",
        "PIDs": str(reading.pids),
    }


def used_memory(memory: "MemorySample") -> int:
    """Return the memory in use without file cache that the kernel could drop at once, as Docker counts it."""
    for key in ("total_inactive_file", "inactive_file"):  # cgroup v1, v2
        inactive = memory.stats.get(key, 0)
        if 0 < inactive < memory.usage_bytes:
            return memory.usage_bytes - inactive
    return memory.usage_bytes


def cpu_percent(reading: "ContainerStats") -> float:
    """Return the share of the CPUs between two readings: 100 is one CPU."""
    used = reading.cpu.usage_ns - reading.previous_cpu.usage_ns
    system = reading.cpu.system_ns - reading.previous_cpu.system_ns
    if used <= 0 or system <= 0:
        return 0.0
    return used / system * (reading.cpu.online_cpus or 1) * 100
