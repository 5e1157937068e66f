"""``sampan logs``: what a container has written."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan.resource.streams import Frame, LogEntry, LogQuery
    from sampan_cli.backend import ContainerBackend


@dataclass(frozen=True, slots=True)
class LogsOptions:
    """The command line of ``sampan logs``."""

    container: str
    follow: bool
    since: str
    until: str
    tail: str
    timestamps: bool
    details: bool


@sampan_command("logs", examples="sampan logs -f web\nsampan logs --since 10m --tail 100 -t web")
@click.argument("container", shell_complete=completing.containers)
@click.option("--details", is_flag=True, help="Show extra details provided to logs.")
@click.option("--follow", "-f", is_flag=True, help="Follow log output.")
@click.option("--since", default="", help="Show logs since a time (2026-01-02T13:23:37Z) or a duration ago (42m).")
@click.option("--tail", "-n", default="all", show_default=True, help="Number of lines to show from the end.")
@click.option("--timestamps", "-t", is_flag=True, help="Show timestamps.")
@click.option("--until", default="", help="Show logs before a time (2026-01-02T13:23:37Z) or a duration ago (42m).")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Fetch the logs of a container; its stderr goes to stderr."""
    options = from_flags(LogsOptions, flags)
    session.run(lambda engine: show_logs(engine, options, time.time_ns()))


async def show_logs(engine: "ContainerBackend", options: LogsOptions, now_ns: int) -> None:
    """Write the lines that match, and with follow those that come until the container stops."""
    from contextlib import aclosing

    from sampan.engine import following
    from sampan.engine.following import log_details
    from sampan_cli.streams.console import Console
    from sampan_cli.streams.output import OutputWriter

    query = _query(options, now_ns)
    containers = engine.containers
    prefix = await log_details(containers, options.container) if options.details else b""
    read = following.logs(engine, options.container, query)
    async with OutputWriter(Console()) as output, aclosing(read) as batches:
        async for batch in batches:
            await output.write(_frames(batch.entries, prefix, timestamps=options.timestamps))


def _query(options: LogsOptions, now_ns: int) -> "LogQuery":
    from sampan.docker.times import parse_moment
    from sampan.resource.streams import LogQuery

    tail: int | None = None
    if options.tail not in ("", "all"):
        try:
            tail = int(options.tail)
        except ValueError:
            raise InvalidArgumentError(f"invalid tail {options.tail!r}: expected a number of lines or 'all'") from None
    return LogQuery(
        follow=options.follow,
        tail=None if tail is None or tail < 0 else tail,
        since_ns=parse_moment(options.since, now_ns) if options.since else 0,
        until_ns=parse_moment(options.until, now_ns) if options.until else 0,
        joined=not (options.timestamps or options.details),
    )


def _frames(entries: "Iterable[LogEntry]", prefix: bytes, *, timestamps: bool) -> "list[Frame]":
    from sampan.docker.times import rfc3339_fixed
    from sampan.resource.streams import Frame

    def line(entry: "LogEntry") -> bytes:
        stamp = rfc3339_fixed(entry.time_ns).encode() + b" " if timestamps else b""
        return stamp + prefix + entry.line

    return [Frame(entry.stream, line(entry)) for entry in entries]
