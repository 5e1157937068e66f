"""Layers in the form that an export asks for: as blobs at all, in another compression, without times after a moment.

A layer that was converted once is not again, as long as the content store has what came of it. One that is deferred
gets a blob, unless the export can do without.
"""

import secrets
import shutil
from asyncio import to_thread
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from buildd.content import Content, Images, copy_blob
from buildd.deferred import is_deferred
from buildd.protocol import GZIP, PLAIN, ZSTD, Converted, FileWorker, Form, Tree
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
    defer: bool = False  # deferred layers may stay so

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


class LayerBlobMaker(Protocol):
    """Makes blobs of stored layers; see ``sampan.resource.storage.snapshots.Differ``."""

    async def pack(self, diff_id: Digest, lease: str = "") -> Descriptor:
        """Write a layer's blob to the content store, where ``lease`` keeps it. NotFoundError, DataLossError."""


class Storage(Protocol):
    """Where layers are, as ``sampan.client.services.Services`` has it."""

    @property
    def images(self) -> Images:
        """Images."""

    @property
    def differ(self) -> LayerBlobMaker:
        """What makes blobs of layers."""


class LayerConverter:
    """Converts layers in files below ``scratch``, which is its own and is emptied at each start."""

    def __init__(self, content: Content, storage: Storage, files: FileWorker, scratch: Path) -> None:
        self._content = content
        self._storage = storage
        self._files = files
        self._scratch = scratch
        self._forms: OrderedDict[tuple[Digest, Form], Layer] = OrderedDict()

    async def recover(self) -> None:
        """Remove what an earlier life has left."""
        await to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        await to_thread(self._scratch.mkdir, mode=0o700, parents=True)

    async def formed(self, tree: Tree, wanted: Wanted, taken: Collection[Digest], base: Collection[Digest],
                     lease: str) -> Tree:  # fmt: skip
        """Return a tree whose layers are as an export wants them, all of them in the content store, kept by ``lease``.

        Deferred layers that need not be otherwise stay so, if that is ``wanted``.

        Raises:
            NotFoundError: a layer is not there any more.
            InvalidArgumentError, DataLossError: a layer is damaged.
        """
        layers: list[Layer] = []
        known = await self._known(tree, lease)
        for layer in tree.layers:
            form = wanted.form_of(layer, taken, base)
            if is_deferred(layer) and (blob := known.get(layer.diff_id)) is not None:
                layer, form = blob, wanted.form_of(blob, taken, base)
            if is_deferred(layer) and (form is not None or not wanted.defer):
                layer = replace(layer, descriptor=await self._storage.differ.pack(layer.diff_id, lease))
            layers.append(layer if form is None else await self._converted(layer, form, lease))
        return Tree(tuple(layers), tree.unchanged)

    async def _known(self, tree: Tree, lease: str) -> Mapping[Digest, Layer]:
        """Return blobs of deferred layers that images have got since; ``lease`` keeps them."""
        deferred = [layer.diff_id for layer in tree.layers if is_deferred(layer)]
        found = await self._storage.images.forms(deferred) if deferred else ()
        return {layer.diff_id: layer for layer in found if await self._hold(layer, lease)}

    async def _hold(self, layer: Layer, lease: str) -> bool:
        """Keep a layer's blob; return whether it is here."""
        try:
            await copy_blob(self._content, _Nothing(), layer.descriptor, secrets.token_hex(8), lease=lease)
        except NotFoundError:
            return False
        return True

    async def diff_id(self, digest: Digest) -> Digest:
        """Return the digest of the tar that is in a blob. InvalidArgumentError: it is damaged; NotFoundError."""
        async with temporary_tree(self._scratch) as place:
            return (await self._formed(place, digest, Form(PLAIN))).diff_id

    async def _converted(self, layer: Layer, form: Form, lease: str) -> Layer:
        key = layer.descriptor.digest, form
        known = self._forms.get(key)
        if known is not None:
            if await self._hold(known, lease):
                self._forms.move_to_end(key)
                return known
            self._forms.pop(key, None)
        made = await self._convert(layer.descriptor.digest, form, lease)
        self._forms[key] = made
        if len(self._forms) > _REMEMBERED:
            self._forms.popitem(last=False)
        return made

    async def _convert(self, digest: Digest, form: Form, lease: str) -> Layer:
        async with temporary_tree(self._scratch) as place:
            converted = await self._formed(place, digest, form)
            descriptor = Descriptor(TYPES[form.compression], converted.digest, converted.size)
            await copy_blob(self._content, _File(place / "target"), descriptor, secrets.token_hex(8), lease=lease)
            return Layer(descriptor, converted.diff_id)

    async def _formed(self, place: Path, digest: Digest, form: Form) -> Converted:
        """Leave a blob in another form at ``target`` in ``place``."""
        source = place / "source"
        with await to_thread(source.open, "xb") as file:
            async with aclosing(self._content.read(digest)) as pieces:
                async for piece in pieces:
                    await to_thread(file.write, piece)
        return await self._files.convert(source, place / "target", form)


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
