"""Rows from files: what can be known of content whose records are lost.

A blob's file has its digest for a name, so its bytes say whether it is whole. A manifest says what an image is made of,
so an image whose content is all here comes back. What it was called, nothing says.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from imaged.content import store as rows
from imaged.content.blobs import UNLEASED_HOLD_NS, ContentStore
from imaged.images import store as image_store
from imaged.images.model import ImageRecord
from imaged.registry.client import MAX_MANIFEST_BYTES
from imaged.transfer.pull import pair_layers
from sampan.check import Amount
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.config_document import parse_config
from sampan.oci.descriptor import MANIFESTS, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import MAX_CONFIG_BYTES, Manifest, parse_document
from sampan.store.database import Store
from sampan.store.verifying import ExpectedFile, verify


class Rebuilder:
    """Used once, at a start after a database was restored that may lack rows, and before files without one go."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content

    async def run(self) -> None:
        """Record whole files that no row knows, for a day, and images that are whole without a name."""
        known = {blob.digest for blob in await self._store.read(rows.list_blobs)}
        directory = self._content.directory
        files = await asyncio.to_thread(_unknown, directory, known)
        if not files:
            return
        bad = set()
        async for step in verify("blobs", files):
            if not isinstance(step, Amount):
                bad.add(step[0].digest)
        adopted = [Digest(file.digest) for file in files if file.digest not in bad]
        for digest in adopted:
            await self._content.adopt(digest, UNLEASED_HOLD_NS)
        images = 0
        for digest in adopted:
            record = await asyncio.to_thread(self._image, digest)
            if record is not None and await self._store.write(lambda db, record=record: _insert(db, record)):  # type: ignore[misc]
                images += 1
        log.warning("content recorded again", blobs=len(adopted), damaged=len(bad), images=images)

    def _image(self, digest: Digest) -> ImageRecord | None:
        """Return the image whose manifest this is, if it is one."""
        path = self._content.path(digest)
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return None
        data = path.read_bytes()
        try:
            document = json.loads(data)
            media_type = document.get("mediaType", OCI_MANIFEST if "layers" in document else "")
            if media_type not in MANIFESTS:
                return None
            manifest = parse_document(data, media_type, "manifest")
            if not isinstance(manifest, Manifest) or manifest.config.size > MAX_CONFIG_BYTES:
                return None
            config = parse_config(self._content.load_now(manifest.config.digest), "config")
            layers = pair_layers(manifest, config)
        except (ValueError, AttributeError, TypeError, SampanError):
            return None  # something else, or not all of it is here
        own = Descriptor(media_type, digest, len(data))
        sizes = {layer.descriptor.digest: layer.descriptor.size for layer in layers}
        content_bytes = own.size + manifest.config.size + sum(sizes.values())
        return ImageRecord(manifest.config.digest, own, own, layers, content_bytes, 0, ())


def _unknown(directory: Path, known: set[Digest]) -> list[ExpectedFile]:
    if not directory.exists():
        return []
    names = [entry.name for entry in directory.iterdir() if len(entry.name) == 64]
    return [
        ExpectedFile(directory / name, -1, f"sha256:{name}") for name in sorted(names) if f"sha256:{name}" not in known
    ]


def _insert(db: sqlite3.Connection, record: ImageRecord) -> bool:
    """Record an image without a name, if it is not recorded and all of its content is."""
    if image_store.get_image(db, record.id) is not None:
        return False
    blobs = _blobs(record)
    if any(rows.get_blob(db, digest) is None for digest in blobs):
        return False
    image_store.upsert_image(db, record, blobs)
    return True


def _blobs(record: ImageRecord) -> Iterable[Digest]:
    return [record.manifest.digest, record.id, *(layer.descriptor.digest for layer in record.layers)]
