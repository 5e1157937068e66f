"""Write images as an archive."""

from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING

from sampan.api.image.v1 import images_pb2
from sampan.engine.pull import wanted_platform
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services


async def save(engine: "Services", images: Iterable[str], platform: str) -> AsyncGenerator[bytes, None]:
    """See ``Engine.save_images``."""
    wanted = tuple(images)
    of_platform = wanted_platform(platform) if platform else None
    call = engine.images.Save(images_pb2.SaveRequest(images=wanted, platform=of_platform))
    try:
        with rpc_errors():
            async for part in call:
                yield part.chunk
    finally:
        call.cancel()
