"""Tell those who listen for events what was done with an image."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sampan.api.runtime.v1 import containers_pb2, events_pb2
from sampan.errors import UnavailableError
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import batches, size_of

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

_DEADLINE_S: Final = 5.0


async def image(engine: "Engine", action: str, actor_id: str, name: str) -> None:
    """Publish an image event. What was done stays done if nobody can be told."""
    await images(engine, [(action, actor_id, name)])


async def images(engine: "Engine", done: Iterable[tuple[str, str, str]]) -> None:
    """Publish several at once: action, ID and name of each."""
    events = [
        events_pb2.Event(type="image", action=action, actor_id=actor_id, attributes={"name": name})
        for action, actor_id, name in done
    ]
    for batch in batches(events, size_of):
        await _publish(engine, *batch)


async def container(engine: "Engine", action: str, of: containers_pb2.Container, **attributes: str) -> None:
    """Publish an event of a container, with its name, image and labels; likewise."""
    described = {**of.spec.labels, "image": of.spec.image, "name": of.spec.name, **attributes}
    await _publish(engine, events_pb2.Event(type="container", action=action, actor_id=of.id, attributes=described))


async def pruned(engine: "Engine", kind: str, reclaimed_bytes: int) -> None:
    """Publish that all unused objects of a kind were removed; likewise."""
    attributes = {"reclaimed": str(reclaimed_bytes)}
    await _publish(engine, events_pb2.Event(type=kind, action="prune", attributes=attributes))


async def _publish(engine: "Engine", event: events_pb2.Event, *further: events_pb2.Event) -> None:
    try:
        with rpc_errors():
            request = events_pb2.PublishRequest(event=event, further=further)
            await engine.events.Publish(request, timeout=_DEADLINE_S)
    except UnavailableError:
        return
