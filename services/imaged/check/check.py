"""Is what imaged keeps whole? Files against digests, rows against files, and rows against each other."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from imaged.check import rows as check_rows
from imaged.check.repair import Repairer
from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.images.model import ImageRecord
from sampan import check as kinds
from sampan.check import Amount, Finding, Means, Outcome, Step
from sampan.errors import SampanError
from sampan.oci.config_document import parse_config
from sampan.oci.digest import Digest
from sampan.oci.manifest import MAX_CONFIG_BYTES, Manifest, parse_document
from sampan.store.database import Store
from sampan.store.verifying import Difference, ExpectedFile, verify

_BLOB_KINDS: Final = {
    "missing": kinds.BLOB_MISSING,
    "size": kinds.BLOB_TRUNCATED,
    "digest": kinds.BLOB_DAMAGED,
    "unreadable": kinds.BLOB_UNREADABLE,
}

# Files looked at between two transactions of others.
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class _Blobs:
    """What is said to be here."""

    sizes: dict[Digest, int]
    lost: set[Digest] = field(default_factory=set)  # an image needs it, and there is no row


class ContentCheck:
    """Satisfies ``sampan.check.Checker``."""

    kinds = (
        kinds.BLOB_MISSING, kinds.BLOB_TRUNCATED, kinds.BLOB_DAMAGED, kinds.BLOB_UNREADABLE, kinds.BLOB_ORPHAN,
        kinds.IMAGE_BROKEN, kinds.LEASE_BROKEN, kinds.ROW_BROKEN,
    )  # fmt: skip

    def __init__(self, store: Store, content: ContentStore, repairer: Repairer) -> None:
        self._store = store
        self._content = content
        self._repairer = repairer

    async def check(self, *, quick: bool) -> AsyncGenerator[Step, None]:
        """See ``Checker``. What is found damaged counts as missing from then on for whoever fetches it again."""
        blobs = await self._store.read(_look)
        bad: set[Digest] = set()
        files = {self._content.path(digest): digest for digest in blobs.sizes}
        expected = [ExpectedFile(path, blobs.sizes[digest], "" if quick else digest) for path, digest in files.items()]
        async with aclosing(verify("blobs", expected)) as steps:
            async for step in steps:
                if isinstance(step, Amount):
                    yield step
                    continue
                digest = files[step[0].path]
                if await self._content.mark_damaged(digest, step[1].problem):
                    bad.add(digest)
                    yield await self._blob(digest, step[1])
        for digest in sorted(blobs.lost):
            bad.add(digest)
            yield await self._blob(digest, Difference("missing", "its row is gone"))
        async for finding in self._orphans():
            yield finding
        async for seen in self._images(bad):
            yield seen
        for finding in await self._store.read(check_rows.broken):
            yield finding

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """See ``Checker``."""
        if finding.kind in (kinds.LEASE_BROKEN, kinds.ROW_BROKEN):
            if not await self._store.write(lambda db: check_rows.drop(db, finding)):
                return Outcome(repaired=True, text="it is gone already")
            return Outcome(repaired=True, text="removed")
        if finding.kind == kinds.IMAGE_BROKEN:
            return Outcome(repaired=False, text="an image is rebuilt by pulling it again")
        digest = Digest.parse(finding.subject)
        if finding.kind == kinds.BLOB_ORPHAN:
            await self._content.unlink([digest])
            return Outcome(repaired=True, text="removed")
        return await self._repairer.repair(digest, means)

    async def _blob(self, digest: Digest, difference: Difference) -> Finding:
        claims = await self._store.read(lambda db: check_rows.claims(db, digest))
        if claims.sources:
            remedy = f"fetch it from {' or '.join(claims.sources)}"
        elif claims.images:
            remedy = "load or build the image again: it came from no registry"
        elif claims.rooted:
            remedy = "push it again: only the private registry has it"
        elif claims.cached:
            remedy = "forget it: only the build cache has it, and makes it again when it is needed"
        else:
            remedy = "forget it: no image needs it"
        return Finding(
            _BLOB_KINDS[difference.kind],
            digest,
            difference.problem,
            remedy,
            str(self._content.path(digest)),
            mendable=bool(claims.sources) or not (claims.images or claims.rooted),
            affected=(
                *claims.images,
                *(f"{name} in the private registry" for name in claims.repositories),
                *(("build cache",) if claims.cached else ()),
            ),
            sources=claims.sources,
        )

    async def _orphans(self) -> AsyncGenerator[Finding, None]:
        """Files that no row knows: what the next pass of garbage collection removes."""
        directory = self._content.directory
        names = sorted(await asyncio.to_thread(os.listdir, directory))
        for first in range(0, len(names), _BATCH):
            batch = names[first : first + _BATCH]

            # A file is placed and recorded in one transaction, and this runs between two of them.
            def strays(db: sqlite3.Connection, batch: list[str] = batch) -> list[str]:
                return [
                    name
                    for name in batch
                    if not rows.is_known(db, Digest(f"sha256:{name}")) and (directory / name).exists()
                ]

            for name in await self._store.read(strays):
                if len(name) != len("0" * 64):
                    continue  # not ours
                yield Finding(
                    kinds.BLOB_ORPHAN,
                    f"sha256:{name}",
                    "no row knows its file",
                    "remove the file",
                    str(directory / name),
                )

    async def _images(self, bad: AbstractSet[Digest]) -> AsyncGenerator[Step, None]:
        """Compare what is recorded of images with their documents, as far as these are whole."""
        records = await self._store.read(check_rows.images)
        for done, record in enumerate(records):
            yield Amount("images", done, len(records))
            if bad.isdisjoint((record.id, record.manifest.digest)):
                problem = await asyncio.to_thread(self._compare, record)
                if problem:
                    yield Finding(
                        kinds.IMAGE_BROKEN,
                        record.id,
                        problem,
                        "remove it and pull it again",
                        mendable=False,
                        affected=tuple(check_rows.shown(record)),
                    )
        yield Amount("images", len(records), len(records))

    def _compare(self, record: ImageRecord) -> str:
        try:
            manifest = parse_document(
                self._content.load_now(record.manifest.digest), record.manifest.media_type, "its manifest"
            )
            data = self._content.load_now(record.id)
            if len(data) > MAX_CONFIG_BYTES:
                return "its config is too large"
            config = parse_config(data, "its config")
        except SampanError as error:
            return str(error)
        if not isinstance(manifest, Manifest):
            return "its manifest is an index"
        if manifest.config.digest != record.id:
            return f"its manifest is of the image {manifest.config.digest}"
        if _differ(manifest.layers, (layer.descriptor for layer in record.layers)):
            return "its rows name other layers than its manifest"
        if _differ(config.diff_ids, (layer.diff_id for layer in record.layers)):
            return "its rows name other diff IDs than its config"
        return ""


def _differ(first: Iterable[object], second: Iterable[object]) -> bool:
    return list(first) != list(second)


def _look(db: sqlite3.Connection) -> _Blobs:
    sizes = {blob.digest: blob.size for blob in rows.list_blobs(db)}
    return _Blobs(sizes, rows.lost(db))
