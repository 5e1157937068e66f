"""Tell those who listen for events what was done with an image."""

from typing import TYPE_CHECKING, Final

from sampan.api.runtime.v1 import events_pb2
from sampan.errors import UnavailableError
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

_DEADLINE_S: Final = 5.0


async def image(engine: "Engine", action: str, actor_id: str, name: str) -> None:
    """Publish an image event. What was done stays done if nobody can be told."""
    event = events_pb2.Event(type="image", action=action, actor_id=actor_id, attributes={"name": name})
    try:
        with rpc_errors():
            await engine.events.Publish(events_pb2.PublishRequest(event=event), timeout=_DEADLINE_S)
    except UnavailableError:
        return
