"""How much disk the layers take, by what stands on them."""

from collections.abc import Iterable
from dataclasses import dataclass

from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.engine.engine import Engine
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.wire.channel import rpc_errors


@dataclass(frozen=True, slots=True)
class Sizes:
    """Snapshots by key: a chain ID, or a container's ID."""

    snapshots: dict[str, layers_pb2.LayersUsageResponse.Snapshot]

    def own_bytes(self, key: str) -> int:
        """The size of one snapshot without its parents; 0 if it is not there."""
        found = self.snapshots.get(key)
        return found.size_bytes if found else 0

    def chain_bytes(self, key: str) -> int:
        """The size of a snapshot and everything below it."""
        total = 0
        while found := self.snapshots.get(key):
            total += found.size_bytes
            key = found.parent
        return total

    def layers_bytes(self) -> int:
        """What all layers take together, each counted once however many stacks share it."""
        return sum({one.diff_id: one.size_bytes for one in self.snapshots.values() if one.diff_id}.values())

    def shared_bytes(self, image: images_pb2.Image, others: Iterable[images_pb2.Image]) -> int:
        """What ``image`` has in common with any of the ``others``."""
        elsewhere = {chain for other in others if other.id != image.id for chain in chain_of(other)}
        return sum(self.own_bytes(chain) for chain in chain_of(image) if chain in elsewhere)


def chain_of(image: images_pb2.Image) -> tuple[str, ...]:
    """Return the chain IDs of an image's layers, base first."""
    return chain_ids(Digest(layer.diff_id) for layer in image.layers)


async def sizes(engine: Engine) -> Sizes:
    """Ask the snapshotter."""
    with rpc_errors():
        usage = await engine.layers.Usage(layers_pb2.LayersUsageRequest())
    return Sizes({one.key: one for one in usage.snapshots})
