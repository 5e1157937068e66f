"""How much disk layers take, by what stands on them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sampan.api.image.v1 import images_pb2
from sampan.api.snapshot.v1 import layers_pb2
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:
    from sampan.engine.services import Services

Snapshot = layers_pb2.LayersUsageResponse.Snapshot


class Use(NamedTuple):
    """What an image's layers take."""

    size_bytes: int
    shared_bytes: int  # of these, in other images as well


class Sizes:
    """The size of every stored layer, and of every snapshot by its key: a chain ID, or a container's ID."""

    def __init__(self, rows: Iterable[Snapshot]) -> None:
        self._rows = rows
        self.layers = {row.diff_id: row.size_bytes for row in rows if row.diff_id}  # by diff ID

    @cached_property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """All of them, by key; images alone can do without."""
        return {row.key: row for row in self._rows}

    def layer(self, diff_id: str) -> int:
        """The size of a layer; 0 if it is not stored."""
        return self.layers.get(diff_id, 0)

    def parts(self, image: images_pb2.Image) -> list[int]:
        """The size of each of an image's layers; of one that is not unpacked, that of its blob."""
        return [self.layers.get(layer.diff_id, layer.descriptor.size) for layer in image.layers]

    def of(self, image: images_pb2.Image) -> int:
        """The size of all of an image's layers."""
        return sum(self.parts(image))

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

    def together(self, images: Iterable[images_pb2.Image]) -> int:
        """What the layers of ``images`` take, each counted once however many of them have it."""
        counted: dict[str, int] = {}
        for image in images:
            for layer in image.layers:
                if (diff_id := layer.diff_id) not in counted:
                    size = self.layers.get(diff_id)
                    counted[diff_id] = layer.descriptor.size if size is None else size
        return sum(counted.values())

    def uses(self, images: Sequence[images_pb2.Image]) -> list[Use]:
        """What each of ``images`` takes, and what it has in common with any other of them."""
        stacks = [tuple([layer.diff_id for layer in image.layers]) for image in images]
        users: Counter[str] = Counter()
        for stack, count in Counter(stacks).items():
            for diff_id in set(stack):
                users[diff_id] += count
        known: dict[tuple[str, ...], Use] = {}  # often many images have the same stack
        for stack in stacks:
            if stack not in known:
                size = sum(map(self.layer, stack)) if all(diff_id in self.layers for diff_id in stack) else 0
                known[stack] = Use(size, sum([self.layer(diff_id) for diff_id in stack if users[diff_id] > 1]))
        return [
            use if (use := known[stack]).size_bytes else Use(self.of(image), use.shared_bytes)
            for image, stack in zip(images, stacks, strict=True)
        ]

    def shared(self, images: Sequence[images_pb2.Image]) -> dict[str, int]:
        """What each of ``images``, by its ID, has in common with any other of them."""
        return {image.id: use.shared_bytes for image, use in zip(images, self.uses(images), strict=True)}


async def sizes(engine: "Services", *, measure: bool = False) -> Sizes:
    """Ask the snapshotter; with ``measure`` it looks through the files of those snapshots that are written to."""
    with rpc_errors():
        usage = await whole(engine.layers.Usage(layers_pb2.LayersUsageRequest(committed=not measure)))
    return Sizes(usage.snapshots)
