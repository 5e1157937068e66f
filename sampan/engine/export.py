"""A container's file system as an archive."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine import publish
from sampan.wire.channel import rpc_errors

if TYPE_CHECKING:
    from sampan.engine.services import Services


async def export(engine: "Services", container: str) -> AsyncGenerator[bytes, None]:
    """See ``Engine.export_container``."""
    found = await engine.runtime.containers.get(container)
    call = engine.layers.Export(layers_pb2.ExportRequest(key=found.id))
    try:
        with rpc_errors():
            async for part in call:
                yield part.chunk
    finally:
        call.cancel()
    await publish.container(engine.runtime.events, "export", found)
