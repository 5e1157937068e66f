"""``sampan events``: what happens, as it happens."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option

if TYPE_CHECKING:
    from sampan.api.runtime.v1 import events_pb2
    from sampan.engine.engine import Engine

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
def command(session: Session, /, **flags: Any) -> None:
    """Get real time events from the engine, until Ctrl-C."""
    options = EventsOptions(**flags)
    session.run(lambda engine: show_events(engine, options, time.time_ns()))


async def show_events(engine: "Engine", options: EventsOptions, now_ns: int) -> None:
    """Print one line per event."""
    from contextlib import aclosing

    from google.protobuf.timestamp_pb2 import Timestamp

    from sampan.api.runtime.v1 import events_pb2 as pb
    from sampan.engine import following
    from sampan_cli.options.filters import parse_filters
    from sampan_cli.options.quantity import point_in_time_ns
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    request = pb.SubscribeRequest(filters=parse_filters(options.filters, _FILTERS))
    for name, text in (("since", options.since), ("until", options.until)):
        if text:
            moment = Timestamp()
            moment.FromNanoseconds(point_in_time_ns(text, now_ns))
            getattr(request, name).CopyFrom(moment)
    if options.since and (dropped := await following.dropped_events(engine, request.since)):
        click.echo(f"WARNING: {dropped}", err=True)
    shown = Template(options.template) if options.template not in ("", "json") else None
    async with aclosing(following.events(engine, request)) as happening:
        async for event in happening:
            if event is None:
                continue
            if shown is not None:
                click.echo(shown.render(shape_event(event)))
            elif options.template == "json":
                click.echo(to_json(shape_event(event)))
            else:
                click.echo(_line(event))


def shape_event(event: "events_pb2.Event") -> dict[str, Any]:
    """Return an event under Docker's names."""
    from sampan_cli.template.functions import GoMap

    shaped: dict[str, Any] = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": GoMap(event.attributes)},
        "scope": "local",
        "time": event.time.seconds,
        "timeNano": event.time.seconds * 1_000_000_000 + event.time.nanos,
    }
    if event.type in ("container", "image"):
        shaped = {"status": event.action, "id": event.actor_id, **shaped}
    return shaped


def _line(event: "events_pb2.Event") -> str:
    import datetime

    moment = datetime.datetime.fromtimestamp(event.time.seconds).astimezone()
    zone = moment.strftime("%z")
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{event.time.nanos:09d}{f'{zone[:3]}:{zone[3:]}' if zone != '+0000' else 'Z'}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    return f"{stamp} {event.type} {event.action} {event.actor_id}{f' ({attributes})' if attributes else ''}"
