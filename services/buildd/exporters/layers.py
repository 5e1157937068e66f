"""Layers in the form that an export asks for: another compression, or without times after a moment.

A layer that was converted once is not again, as long as the content store has what came of it.
"""

import secrets
import shutil
from asyncio import to_thread
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildd.content import Content, copy_blob
from buildd.protocol import GZIP, PLAIN, ZSTD, FileWorker, Form, Tree
from sampan.errors import NotFoundError
from sampan.oci import descriptor as media
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.sys.trees import temporary_tree

TYPES: Final = {GZIP: media.OCI_LAYER_GZIP, ZSTD: media.OCI_LAYER_ZSTD, PLAIN: media.OCI_LAYER}

_COMPRESSIONS: Final = {
    media.OCI_LAYER: PLAIN,
    media.DOCKER_LAYER: PLAIN,
    media.OCI_LAYER_GZIP: GZIP,
    media.DOCKER_LAYER_GZIP: GZIP,
    media.OCI_LAYER_ZSTD: ZSTD,
}
_REMEMBERED: Final = 1024
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export says of its layers."""

    compression: str = GZIP
    level: int | None = None
    force: bool = False  # other images' layers, too
    latest_ns: int | None = None  # of the times in those layers that no base image has; None: times stay

    def form_of(self, layer: Layer, taken: Collection[Digest], base: Collection[Digest]) -> Form | None:
        """Return the form that a layer has to be brought into; None: it stays as it is.

        ``taken`` are diff IDs of other images' layers, ``base`` those of the image that this one stands on.
        """
        latest_ns = self.latest_ns if layer.diff_id not in base else None
        now = _COMPRESSIONS.get(layer.descriptor.media_type, GZIP)
        other = now != self.compression or (self.level is not None and self.compression != PLAIN)
        ours = other and (self.force or layer.diff_id not in taken)
        if not ours and latest_ns is None:
            return None
        return Form(self.compression, self.level, latest_ns) if ours else Form(now, None, latest_ns)


class LayerConverter:
    """Converts layers in files below ``scratch``, which is its own and is emptied at each start."""

    def __init__(self, content: Content, files: FileWorker, scratch: Path) -> None:
        self._content = content
        self._files = files
        self._scratch = scratch
        self._known: OrderedDict[tuple[Digest, Form], Layer] = OrderedDict()

    async def recover(self) -> None:
        """Remove what an earlier life has left."""
        await to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        await to_thread(self._scratch.mkdir, mode=0o700, parents=True)

    async def formed(self, tree: Tree, wanted: Wanted, taken: Collection[Digest], base: Collection[Digest],
                     lease: str) -> Tree:  # fmt: skip
        """Return a tree whose layers are as an export wants them, all of them in the content store, kept by ``lease``.

        Raises:
            NotFoundError: a layer is not there any more.
            InvalidArgumentError: a layer is damaged.
        """
        layers: list[Layer] = []
        for layer in tree.layers:
            form = wanted.form_of(layer, taken, base)
            layers.append(layer if form is None else await self._converted(layer, form, lease))
        return Tree(tuple(layers), tree.unchanged)

    async def _converted(self, layer: Layer, form: Form, lease: str) -> Layer:
        key = layer.descriptor.digest, form
        known = self._known.get(key)
        if known is not None:
            try:
                await copy_blob(self._content, _Nothing(), known.descriptor, secrets.token_hex(8), lease=lease)
            except NotFoundError:
                self._known.pop(key, None)
            else:
                self._known.move_to_end(key)
                return known
        made = await self._convert(layer.descriptor.digest, form, lease)
        self._known[key] = made
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return made

    async def _convert(self, digest: Digest, form: Form, lease: str) -> Layer:
        async with temporary_tree(self._scratch) as place:
            source, target = place / "source", place / "target"
            with await to_thread(source.open, "xb") as file:
                async with aclosing(self._content.read(digest)) as pieces:
                    async for piece in pieces:
                        await to_thread(file.write, piece)
            converted = await self._files.convert(source, target, form)
            descriptor = Descriptor(TYPES[form.compression], converted.digest, converted.size)
            await copy_blob(self._content, _File(target), descriptor, secrets.token_hex(8), lease=lease)
            return Layer(descriptor, converted.diff_id)


class _File:
    """A store with one blob, which is a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes."""
        assert digest
        assert not size
        with await to_thread(self._path.open, "rb") as file:
            file.seek(offset)
            while piece := await to_thread(file.read, _PIECE_BYTES):
                yield piece


class _Nothing:
    """A store without blobs: what is to be copied from it has to be there."""

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Raise NotFoundError."""
        raise NotFoundError(f"content {digest}: not found ({offset}, {size})")
        yield b""
