"""Whether layers from elsewhere are what they are said to be, before anything is made of them or they go on to others.

The snapshotter compares a blob with its diff ID when it unpacks it. Of a layer that is here already it reads no other
blob: one that merely says that it is that layer would be believed, and pushed with the image that is made of it.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from buildd.protocol import Tree
from sampan.errors import DataLossError, InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.resource.image import Layer

_REMEMBERED: Final = 4096


class ForeignTrees(Protocol):
    """Trees that come from elsewhere."""

    async def unproven(self, tree: Tree) -> Sequence[Layer]:
        """Make a tree ready; return those of its layers of which no blob was read for that, as they were here.

        Raises:
            SampanError: as ``Trees.ready``.
        """


class LayerReader(Protocol):
    """Reads blobs of layers."""

    async def diff_id(self, digest: Digest) -> Digest:
        """Return the digest of the tar that is in a blob. InvalidArgumentError: it is damaged; NotFoundError."""


class LayerProofs:
    """Those of all builds, for which a blob is read once."""

    def __init__(self, trees: ForeignTrees, reader: LayerReader) -> None:
        self._trees = trees
        self._reader = reader
        self._proven: OrderedDict[tuple[Digest, Digest], None] = OrderedDict()

    async def prove(self, tree: Tree, trusted: Collection[Layer]) -> None:
        """Make a tree ready whose blobs are in the content store; of ``trusted`` layers they are not looked at.

        Raises:
            DataLossError: a blob is not the layer that it is said to be.
            SampanError: as ``Trees.ready``.
        """
        for layer in await self._trees.unproven(tree):
            if layer in trusted:
                continue
            pair = layer.descriptor.digest, layer.diff_id
            if pair not in self._proven:
                await self._read(layer)
            self._proven[pair] = None
            self._proven.move_to_end(pair)
        while len(self._proven) > _REMEMBERED:
            self._proven.popitem(last=False)

    async def _read(self, layer: Layer) -> None:
        blob = layer.descriptor.digest
        try:
            found = await self._reader.diff_id(blob)
        except InvalidArgumentError as error:
            raise DataLossError(f"blob {blob} is no layer: {error}") from error
        if found != layer.diff_id:
            raise DataLossError(f"blob {blob} is said to be the layer {layer.diff_id} and is {found}")
