"""``sampan top`` without a container: the engine at work, full-screen, until Ctrl-C."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.errors import SampanError
from sampan.layout import Layout

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from sampan.resource.container import ContainerDetails
    from sampan.resource.stats import ContainerStats
    from sampan_cli.backend import ContainerBackend
    from sampan_cli.commands.system.status import ServiceStatus

_REFRESH_S: Final = 1.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process has used at one time; all zero if it cannot be seen."""

    at_s: float = 0.0
    cpu_s: float = 0.0
    resident_bytes: int = 0


def read_process(pid: int | None) -> ProcessUse:
    """Look at a process."""
    try:
        # The name is in parentheses, and may have some itself; fields 14 and 15 are its times, 24 is its memory.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ProcessUse()
    return ProcessUse(time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE)


class Screen:
    """Everything that is shown, and how it looks."""

    def __init__(self) -> None:
        self.services: Sequence[ServiceStatus] = ()
        self.containers: Sequence[ContainerDetails] = ()
        self.readings: dict[str, ContainerStats] = {}
        self._used: dict[str, tuple[ProcessUse, ProcessUse]] = {}  # by service: before, now

    def look(self, services: "Sequence[ServiceStatus]", containers: "Sequence[ContainerDetails]") -> None:
        """Take over what there is now."""
        self.services, self.containers = services, containers
        for each in services:
            _, before = self._used.get(each.service, (ProcessUse(), ProcessUse()))
            self._used[each.service] = before, read_process(each.pid)
        present = {container.id for container in containers}
        self.readings = {key: reading for key, reading in self.readings.items() if key in present}

    def render(self) -> "RenderableType":
        """Return one frame."""
        from rich.console import Group
        from rich.text import Text

        running = sum(container.state.status.value == "running" for container in self.containers)
        head = Text(f"{time.strftime('%H:%M:%S')}  {len(self.containers)} containers, {running} running", style="bold")
        return Group(head, self._services(), self._containers())

    def _services(self) -> "RenderableType":
        from sampan.docker.sizes import binary_size

        rows = []
        for each in self.services:
            before, now = self._used[each.service]
            span = now.at_s - before.at_s if before.at_s else 0.0
            share = f"{(now.cpu_s - before.cpu_s) / span * 100:.1f}%" if span > 0 and now.at_s else "-"
            size = binary_size(now.resident_bytes) if now.at_s else "-"
            rows.append((each.service, str(each.pid or "-"), "yes" if each.healthy else "no", share, size))
        return _table(("SERVICE", "PID", "HEALTHY", "CPU %", "MEMORY"), rows)

    def _containers(self) -> "RenderableType":
        from sampan.docker.views.container_view import status_text
        from sampan_cli.commands.container.stats import cpu_percent, stats_row

        def busiest(container: "ContainerDetails") -> tuple[float, str]:
            reading = self.readings.get(container.id)
            return -cpu_percent(reading) if reading else 1.0, container.name

        rows = []
        for container in sorted(self.containers, key=busiest):
            reading = self.readings.get(container.id)
            used: Mapping[str, object] = stats_row(reading, container.name, trunc=True) if reading else {}
            columns = ("CPUPerc", "MemUsage", "NetIO", "BlockIO", "PIDs")
            shown = (str(used.get(column, "-")) for column in columns)
            rows.append((container.name, status_text(container.state, time.time()), *shown))
        return _table(("NAME", "STATUS", "CPU %", "MEM USAGE / LIMIT", "NET I/O", "BLOCK I/O", "PIDS"), rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> "RenderableType":
    from rich.markup import escape
    from rich.table import Table

    table = Table(*titles, box=None, pad_edge=False, header_style="bold", expand=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


async def watch(engine: "ContainerBackend", layout: Layout | None, console: "Console") -> None:
    """Show everything anew each second, full-screen; where there is no terminal, once.

    Services are those of an engine of this machine, at ``layout``; without one containers alone are shown.
    """
    from rich.live import Live

    screen = Screen()
    if not console.is_terminal:
        await _look(engine, layout, screen)
        await asyncio.gather(*(_read_once(engine, container, screen) for container in _running(screen)))
        console.print(screen.render())
        return
    async with asyncio.TaskGroup() as followers:
        following: dict[str, asyncio.Task[None]] = {}
        with Live(screen=True, console=console, auto_refresh=False) as live:
            while True:
                await _look(engine, layout, screen)
                for container in _running(screen):
                    if container.id not in following or following[container.id].done():
                        following[container.id] = followers.create_task(_follow(engine, container.id, screen))
                live.update(screen.render(), refresh=True)
                await asyncio.sleep(_REFRESH_S)


def _running(screen: Screen) -> "list[ContainerDetails]":
    return [container for container in screen.containers if container.state.status.value == "running"]


async def _look(engine: "ContainerBackend", layout: Layout | None, screen: Screen) -> None:
    from sampan.resource.listing import ALL
    from sampan_cli.commands.system.status import read_status

    screen.look(await read_status(layout) if layout is not None else [], await engine.containers.list(ALL))


async def _read_once(engine: "ContainerBackend", container: "ContainerDetails", screen: Screen) -> None:
    from sampan.engine import following

    with suppress(SampanError):  # it has ended
        async with aclosing(following.stats(engine, container.id, stream=False)) as readings:
            async for reading in readings:
                screen.readings[container.id] = reading


async def _follow(engine: "ContainerBackend", id: str, screen: Screen) -> None:
    from sampan.engine import following

    with suppress(SampanError):
        async with aclosing(following.stats(engine, id, stream=True)) as readings:
            async for reading in readings:
                screen.readings[id] = reading
                if not reading.cpu.system_ns:  # it runs no more
                    break
    screen.readings.pop(id, None)
