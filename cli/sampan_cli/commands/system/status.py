"""``sampan status``: the engine's services."""

import asyncio
import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan.service.set_aside import Unrecovered, read_set_aside
from sampan.services import KEPT, STARTED
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.flags import format_option
from sampan_cli.supervisor import roots

# A healthy service answers in a few milliseconds, also when it is busy; the machine may be.
_DEADLINE_S: Final = 1.0

_TABLE: Final = "{{.Service}}\t{{.Pid}}\t{{.Healthy}}\t{{.Socket}}\t{{.Metrics}}"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One line of the list."""

    service: str
    pid: int | None  # None: it does not run
    healthy: bool
    socket: str
    metrics: str  # host:port, or empty
    set_aside: tuple[Unrecovered, ...] = ()  # what it could not recover when it started
    problems: tuple[str, ...] = ()  # what should be looked after although it works
    waits: bool = False  # does not run, and is started when somebody asks it for something: healthy


@sampan_command(
    "status", examples="sampan status\nsampan status --format json\nsampan status --format '{{.Service}} {{.Pid}}'"
)
@format_option
@click.pass_obj
def command(session: Session, template: str) -> None:
    """Show the engine's services: process, health, gRPC socket and the address of /metrics.

    A service that is started when somebody asks it for something is healthy without a process: "when asked". What a
    service could not recover when it started, and has set aside, is told on stderr.

    Exits with 0 if all are healthy and with 1 if not.
    """
    statuses = asyncio.run(read_status(session.here("status")))
    if template == "json":  # one list, unlike other lists: it is always short and always read as a whole
        click.echo(json.dumps([asdict(status) for status in statuses], indent=2))
    else:
        _print(statuses, template)
        for each in (each for status in statuses for each in status.set_aside):
            click.echo(str(each), err=True)
        for problem in (problem for status in statuses for problem in status.problems):
            click.echo(f"{problem[:1].upper()}{problem[1:]}", err=True)
    if not all(status.healthy for status in statuses):
        raise click.exceptions.Exit(1)


async def read_status(layout: Layout) -> list[ServiceStatus]:
    """Ask every service how it is, all at once."""
    running = {process.name: process.pid for process in roots.services(layout)}
    names = (*STARTED, *(name for name in KEPT if name in running))
    return list(await asyncio.gather(*(_status(layout, name, running.get(name)) for name in names)))


async def _status(layout: Layout, service: str, pid: int | None) -> ServiceStatus:
    facts: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):  # it does not run, or is starting
        facts = json.loads(await asyncio.to_thread(layout.state_file(service).read_text))
    if facts.get("waits") and pid is None and _exists(facts["pid"]):
        metrics = str(facts.get("metrics") or "")
        return ServiceStatus(service, None, True, str(layout.socket(service)), metrics, waits=True)
    if facts and facts["pid"] != pid:
        if not os.access(layout.data(service) / "lock", os.R_OK) and _exists(facts["pid"]):
            pid = facts["pid"]  # who is not the engine's own user cannot see who holds its locks
        else:
            facts = {}  # of a process that was killed
    healthy = bool(facts) and await _is_healthy(layout, service)
    set_aside = await asyncio.to_thread(read_set_aside, layout, (service,)) if facts else ()
    problems = tuple(map(str, facts.get("problems", ())))
    metrics = str(facts.get("metrics") or "")
    return ServiceStatus(service, pid, healthy, str(layout.socket(service)), metrics, set_aside, problems)


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _is_healthy(layout: Layout, service: str) -> bool:
    from sampan.client.maintenance import is_serving

    return await is_serving(layout.socket(service), _DEADLINE_S)


def _print(statuses: list[ServiceStatus], template: str) -> None:
    from sampan_cli.output.table import print_list

    rows = [
        {
            "Service": each.service,
            "Pid": str(each.pid or "-"),
            "Healthy": "when asked" if each.waits else "yes" if each.healthy else "no",
            "Socket": each.socket,
            "Metrics": each.metrics,
        }
        for each in statuses
    ]
    try:
        print_list(rows, template, {field: field.upper() for field in rows[0]}, _TABLE, click.echo)
    except SampanError as error:
        raise CommandError(str(error)) from error
