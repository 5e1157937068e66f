"""How much room images take, unpacked."""

from collections.abc import Mapping
from dataclasses import dataclass

from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine.engine import Engine
from sampan.wire.channel import rpc_errors


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """The size of every stored layer, by diff ID."""

    by_diff_id: Mapping[str, int]

    def layer(self, diff_id: str) -> int:
        """Return a layer's size on disk; 0 if it is not stored."""
        return self.by_diff_id.get(diff_id, 0)

    def of(self, image: images_pb2.Image) -> int:
        """Return the size of all of an image's layers."""
        return sum(
            self.by_diff_id.get(layer.diff_id, layer.descriptor.size)  # of a blob that is not unpacked yet
            for layer in image.layers
        )


async def image_sizes(engine: Engine) -> ImageSizes:
    """Ask the snapshotter for all sizes in one call."""
    with rpc_errors():
        usage = await engine.layers.Usage(layers_pb2.LayersUsageRequest(committed=True))
    return ImageSizes({snapshot.diff_id: snapshot.size_bytes for snapshot in usage.snapshots if snapshot.diff_id})
