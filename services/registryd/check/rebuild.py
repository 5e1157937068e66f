"""Rows from labels: what can be known of repositories whose records are lost.

Each label says which repository its content is for, and a document says what it refers to. Which tags led to it,
nothing says.
"""

import sqlite3
from collections.abc import Iterable

from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.document import MAX_MANIFEST_BYTES, parse_manifest, stated_media_type
from registryd.repositories.engine_images import load_document
from registryd.repositories.model import Manifest
from registryd.repositories.refusal import RefusedError
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.store.database import Store

_Kept = tuple[str, Digest, int, str]  # repository, digest, size, label


class Rebuilder:
    """Used once, at a start after a database was restored that may lack rows, and before labels without one go."""

    def __init__(self, store: Store, contents: Contents, keep_until_ns: int) -> None:
        """``keep_until_ns`` is until when blobs stay that no manifest refers to."""
        self._store = store
        self._contents = contents
        self._keep_until_ns = keep_until_ns

    async def run(self) -> None:
        """Record what labels keep and no row knows. Raises UnavailableError if the content store does not answer."""
        known = await self._store.read(rows.list_roots)
        blobs: list[_Kept] = []
        manifests: list[tuple[_Kept, Manifest]] = []
        async for held in self._contents.held():
            for root, repository in held.roots.items():
                if root not in known:
                    kept = repository, held.digest, held.size, root
                    manifest = await self._manifest(held.digest, held.size)
                    if manifest is None:
                        blobs.append(kept)
                    else:
                        manifests.append((kept, manifest))
        await self._store.write(lambda db: self._record(db, blobs))
        left = manifests
        while left:  # an index comes after what it lists
            refused = await self._store.write(lambda db, left=left: _record_manifests(db, left))  # type: ignore[misc]
            if len(refused) == len(left):
                break
            left = refused
        await self._store.write(lambda db: self._record(db, [kept for kept, _ in left]))
        if blobs or manifests:
            log.warning(
                "repositories recorded again, without their tags",
                blobs=len(blobs),
                manifests=len(manifests) - len(left),
            )

    async def _manifest(self, digest: Digest, size: int) -> Manifest | None:
        if size > MAX_MANIFEST_BYTES:
            return None
        try:
            data = await load_document(self._contents, digest)
            return parse_manifest(data, stated_media_type(data))
        except (SampanError, ValueError):
            return None

    def _record(self, db: sqlite3.Connection, blobs: Iterable[_Kept]) -> None:
        for repository, digest, size, root in blobs:
            rows.put_blob(db, repository, digest, size, root, self._keep_until_ns)


def _record_manifests(
    db: sqlite3.Connection, manifests: Iterable[tuple[_Kept, Manifest]]
) -> list[tuple[_Kept, Manifest]]:
    """Record manifests, and return those that refer to what is not recorded yet."""
    refused = []
    for kept, manifest in manifests:
        repository, _, _, root = kept
        db.execute("SAVEPOINT manifest")
        try:
            rows.put_manifest(db, repository, manifest, root, None)
        except RefusedError:
            db.execute("ROLLBACK TO manifest")
            refused.append((kept, manifest))
        db.execute("RELEASE manifest")
    return refused
