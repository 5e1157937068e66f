"""Images with deferred layers: the snapshotter has these, and nobody has made blobs of them yet.

The manifest of such an image names a deferred layer by its tar, whose digest is the diff ID. That is a manifest like
others; the blob is recorded for the image, and for whoever wants content it is not here (see ``store.defer``). When
somebody needs all of it, blobs are made, compressed, and the image is completed: it gets another manifest, which names
those, and its names lead to that from then on. Config and image ID stay what they are.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.images import store as image_store
from imaged.images.model import ImageRecord
from imaged.registry.client import MAX_MANIFEST_BYTES
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.descriptor import DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest_document import descriptor_members
from sampan.resource.image import Layer
from sampan.store.database import Store


def record(db: sqlite3.Connection, layers: Sequence[Layer], deferred: Collection[Digest], now_ns: int) -> None:
    """Record the blobs of those ``layers`` that are not here, and whose diff IDs are among ``deferred``."""
    for layer in layers:
        if layer.diff_id in deferred and layer.descriptor.digest == layer.diff_id:
            rows.defer(db, layer.diff_id, layer.descriptor.size, now_ns)


class Completer:
    """Completes images."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content

    async def forms(self, diff_ids: Sequence[Digest]) -> Sequence[Layer]:
        """See ``resource.storage.images.Images``."""
        return tuple((await self._store.read(lambda db: image_store.layers_of(db, diff_ids))).values())

    async def complete(self, image: str, layers: Sequence[Layer], lease: str) -> None:
        """See ``resource.storage.images.Images``."""
        before, _ = await self._store.read(lambda db: image_store.find(db, image))
        made = {layer.diff_id: layer.descriptor for layer in layers}
        if absent := [diff_id for diff_id in before.deferred if diff_id not in made]:
            raise InvalidArgumentError(f"image {before.id.short} is not complete without layer {absent[0]}")
        if not before.deferred:
            await self._content.drop_unused(lambda db: rows.delete_leases(db, [lease]))
            return
        after = await self._completed(before, {diff_id: made[diff_id] for diff_id in before.deferred}, lease)

        def change(db: sqlite3.Connection) -> list[str]:
            current = image_store.get_image(db, before.id)
            if current is None:
                raise NotFoundError(f"No such image: {before.id}")
            dropped = rows.delete_leases(db, [lease])
            if current.manifest != before.manifest or current.target != before.manifest:
                return dropped  # it has come again by another one meanwhile, which is as it is
            wanted = [after.manifest.digest, after.id, *(layer.descriptor.digest for layer in after.layers)]
            image_store.upsert_image(db, after, wanted)
            image_store.move_names(db, after.id, before.manifest.digest, after.manifest.digest)
            return [*dropped, *image_store.leave_targets(db, after.id, after.manifest.digest, wanted)]

        await self._content.drop_unused(change)

    async def _completed(self, image: ImageRecord, made: Mapping[Digest, Descriptor], lease: str) -> ImageRecord:
        """Store the manifest that names what was made, and return the image by it."""
        data = await self._content.load(image.manifest.digest, MAX_MANIFEST_BYTES)
        document = load_json(data, f"content {image.manifest.digest}")
        if not isinstance(document, dict):  # it was one when the image was made
            raise InvalidArgumentError(f"content {image.manifest.digest} is no manifest")
        layers = tuple(
            replace(layer, descriptor=_typed(made[layer.diff_id], layer.descriptor)) if layer.diff_id in made else layer
            for layer in image.layers
        )
        document["layers"] = [
            {**listed, **descriptor_members(layer.descriptor)}
            for listed, layer in zip(document["layers"], layers, strict=True)
        ]
        rendered = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        manifest = await self._content.put(rendered, image.manifest.media_type, lease)
        sizes = {layer.descriptor.digest: layer.descriptor.size for layer in layers}
        config_bytes = int(document["config"]["size"])
        content_bytes = manifest.size + config_bytes + sum(sizes.values())
        return replace(image, target=manifest, manifest=manifest, layers=layers, content_bytes=content_bytes)


def _typed(blob: Descriptor, tar: Descriptor) -> Descriptor:
    """Return a blob as a manifest of the same kind names it."""
    if tar.media_type == DOCKER_LAYER and blob.media_type == OCI_LAYER_GZIP:
        return replace(blob, media_type=DOCKER_LAYER_GZIP)
    return blob
