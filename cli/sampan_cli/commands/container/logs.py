"""``sampan logs``: what a container has written."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.api.runtime.v1 import containers_pb2
    from sampan.engine.engine import Engine


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
def command(session: Session, /, **flags: Any) -> None:
    """Fetch the logs of a container; its stderr goes to stderr."""
    options = LogsOptions(**flags)
    session.run(lambda engine: show_logs(engine, options, time.time_ns()))


async def show_logs(engine: "Engine", options: LogsOptions, now_ns: int) -> None:
    """Write the lines that match, and with follow those that come until the container stops."""
    from contextlib import aclosing

    from sampan.engine import following
    from sampan.engine.log_details import log_details
    from sampan_cli.streams.console import Console
    from sampan_cli.streams.output import OutputWriter

    request = _request(options, now_ns)
    prefix = await log_details(engine, options.container) if options.details else b""
    async with OutputWriter(Console()) as output, aclosing(following.logs(engine, request)) as answers:
        async for answer in answers:
            await output.write(_frames(answer.entries, prefix, timestamps=options.timestamps))


def _request(options: LogsOptions, now_ns: int) -> "containers_pb2.LogsRequest":
    from google.protobuf.timestamp_pb2 import Timestamp

    from sampan.api.runtime.v1 import containers_pb2 as pb
    from sampan_cli.options.quantity import point_in_time_ns

    request = pb.LogsRequest(container=options.container, stdout=True, stderr=True, follow=options.follow)
    if options.tail not in ("", "all"):
        try:
            tail = int(options.tail)
        except ValueError:
            raise InvalidArgumentError(f"invalid tail {options.tail!r}: expected a number of lines or 'all'") from None
        if tail >= 0:
            request.tail = tail
    for name, text in (("since", options.since), ("until", options.until)):
        if text:
            moment = Timestamp()
            moment.FromNanoseconds(point_in_time_ns(text, now_ns))
            getattr(request, name).CopyFrom(moment)
    return request


def _frames(
    entries: "Iterable[containers_pb2.LogEntry]", prefix: bytes, *, timestamps: bool
) -> "list[containers_pb2.Frame]":
    from sampan.api.runtime.v1 import containers_pb2 as pb
    from sampan_cli.output.units import rfc3339_fixed

    def line(entry: "containers_pb2.LogEntry") -> bytes:
        stamp = rfc3339_fixed(entry.time.seconds, entry.time.nanos).encode() + b" " if timestamps else b""
        return stamp + prefix + entry.line

    return [pb.Frame(stream=entry.stream, data=line(entry)) for entry in entries]
