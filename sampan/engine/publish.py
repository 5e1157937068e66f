"""Tell those who listen for events what was done with an image, or with what several services hold."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import UnavailableError
from sampan.resource.container import Container
from sampan.resource.event import Event

if TYPE_CHECKING:
    from sampan.resource.protocols import Events


async def image(events: "Events", action: str, actor_id: str, name: str) -> None:
    """Publish an image event. What was done stays done if nobody can be told."""
    await images(events, [(action, actor_id, name)])


async def images(events: "Events", done: Iterable[tuple[str, str, str]]) -> None:
    """Publish several at once: action, ID and name of each."""
    await _publish(events, [Event("image", action, actor_id, {"name": name}) for action, actor_id, name in done])


async def container(events: "Events", action: str, of: Container, **attributes: str) -> None:
    """Publish an event of a container, with its name, image and labels; likewise."""
    described = {**of.spec.labels, "image": of.spec.image, "name": of.spec.name, **attributes}
    await _publish(events, [Event("container", action, of.id, described)])


async def pruned(events: "Events", kind: str, reclaimed_bytes: int) -> None:
    """Publish that all unused objects of a kind were removed; likewise."""
    await _publish(events, [Event(kind, "prune", "", {"reclaimed": str(reclaimed_bytes)})])


async def _publish(events: "Events", done: Iterable[Event]) -> None:
    with suppress(UnavailableError):
        await events.publish(done)
