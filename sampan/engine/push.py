"""Bring an image to its registry."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from sampan.api.image.v1 import images_pb2
from sampan.engine import publish
from sampan.engine.pull import wanted_platform
from sampan.oci.reference import parse_reference
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services


async def push(
    engine: "Services", reference: str, platform: str, credentials: images_pb2.Credentials | None
) -> AsyncGenerator[images_pb2.PushProgress, None]:
    """See ``Engine.push``."""
    wanted = wanted_platform(platform) if platform else None
    request = images_pb2.PushRequest(reference=reference, platform=wanted, credentials=credentials)
    call = engine.images.Push(request)
    pushed = False
    try:
        with rpc_errors():
            async for step in call:
                pushed = pushed or step.HasField("pushed")
                yield step
    finally:
        call.cancel()
    if pushed:
        name = parse_reference(reference).with_default_tag().familiar
        await publish.image(engine.runtime.events, "push", name, name)
