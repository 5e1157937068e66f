"""An event in the shape that Docker's clients know."""

from sampan.resource.event import Event


def event_json(event: Event, version: tuple[int, int] = (1, 50)) -> dict[str, object]:
    """Return one event; before 1.52 ``status``, ``id`` and ``from`` repeat it in the form that it had before 1.22."""
    attributes = dict(event.attributes)
    result: dict[str, object] = {}
    if event.type in ("container", "image") and version < (1, 52):
        result |= {"status": event.action} | ({"id": event.actor_id} if event.actor_id else {})
        if event.type == "container" and attributes.get("image"):
            result["from"] = attributes["image"]
    return result | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
