"""Tell those who listen for events what was done with an image, or with what several services hold."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from sampan.errors import SampanError, UnavailableError
from sampan.oci.reference import parse_reference
from sampan.resource.container import Container
from sampan.resource.event import Event
from sampan.resource.image import ImageDetails

if TYPE_CHECKING:
    from sampan.engine.parts import ImageLookup
    from sampan.resource.protocols import Events


async def image(
    events: "Events", action: str, actor_id: str, name: str, labels: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Publish an image event, with the image's labels. What was done stays done if nobody can be told."""
    await images(events, [(action, actor_id, name)], {actor_id: labels})


async def images(
    events: "Events",
    done: Iterable[tuple[str, str, str]],
    labels: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> None:
    """Publish several at once: action, ID and name of each; ``labels`` are those of the images by ID.

    Of an image that is gone nobody knows any.
    """
    await _publish(
        events,
        [
            Event("image", action, key, {**({} if action == "delete" else labels.get(key, {})), "name": name})
            for action, key, name in done
        ],
    )


async def known_labels(images: "ImageLookup", image: str) -> dict[str, Mapping[str, str]]:
    """Return the labels of an image by its ID; nothing of one that cannot be looked at: what is done to it goes on."""
    try:
        found = await images.get(image)
    except SampanError:
        return {}
    return {found.id: found.config.labels}


async def moved(events: "Events", action: str, reference: str, labels: Mapping[str, str]) -> None:
    """Publish that an image was pulled or pushed: by its name and tag, as Docker does, and not by its ID."""
    found = parse_reference(reference).with_default_tag()
    await image(events, action, found.familiar, found.familiar_name, labels)


async def built(events: "Events", made: ImageDetails, names: Iterable[str]) -> None:
    """Publish that an image was made, and which names it got."""
    familiar = [parse_reference(name).with_default_tag().familiar for name in names]
    done = [("create", made.id, made.id), *(("tag", made.id, name) for name in familiar)]
    await images(events, done, {made.id: made.config.labels})


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
