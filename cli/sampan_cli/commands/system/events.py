"""``sampan events``: what happens, as it happens."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, from_flags

if TYPE_CHECKING:
    from sampan.resource.event import Event
    from sampan_cli.backend import ContainerBackend

_FILTERS: Final = ("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")


@dataclass(frozen=True, slots=True)
class EventsOptions:
    """The command line of ``sampan events``."""

    filters: tuple[str, ...]
    template: str
    since: str
    until: str


@sampan_command("events", examples="sampan events --filter type=container\nsampan events --since 10m --until 0s")
@filter_option
@click.option("--format", "template", default="", help="json, or a Go template such as '{{.Action}}'.")
@click.option("--since", default="", help="Show all events created since a time or a duration ago.")
@click.option("--until", default="", help="Stream events until a time or a duration ago.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Get real time events from the engine, until Ctrl-C."""
    options = from_flags(EventsOptions, flags)
    session.run(lambda engine: show_events(engine, options, time.time_ns()))


async def show_events(engine: "ContainerBackend", options: EventsOptions, now_ns: int) -> None:
    """Print one line per event."""
    from contextlib import aclosing

    from sampan.docker.filters import parse_filters
    from sampan.docker.times import parse_moment
    from sampan.engine import following
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    since_ns = parse_moment(options.since, now_ns) if options.since else 0
    if options.since and (dropped := await following.dropped_events(engine, since_ns)):
        click.echo(f"WARNING: {dropped}", err=True)
    told = following.events(
        engine,
        since_ns=since_ns,
        until_ns=parse_moment(options.until, now_ns) if options.until else 0,
        filters=parse_filters(options.filters, _FILTERS),
    )
    shown = Template(options.template) if options.template not in ("", "json") else None
    async with aclosing(told) as happening:
        async for event in happening:
            if event is None:
                continue
            if shown is not None:
                click.echo(shown.render(shape_event(event)))
            elif options.template == "json":
                click.echo(to_json(shape_event(event)))
            else:
                click.echo(_line(event))


def shape_event(event: "Event") -> dict[str, object]:
    """Return an event under Docker's names."""
    from sampan.docker.views.event_view import event_json
    from sampan_cli.template.functions import GoMap

    return event_json(event) | {"Actor": {"ID": event.actor_id, "Attributes": GoMap(event.attributes)}}


def _line(event: "Event") -> str:
    import datetime

    moment = datetime.datetime.fromtimestamp(event.time_ns // 1_000_000_000).astimezone()
    zone = moment.strftime("%z")
    shown_zone = f"{zone[:3]}:{zone[3:]}" if zone != "+0000" else "Z"
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{event.time_ns % 1_000_000_000:09d}{shown_zone}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    return f"{stamp} {event.type} {event.action} {event.actor_id}{f' ({attributes})' if attributes else ''}"
