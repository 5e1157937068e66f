"""Make rows and content agree again, one finding at a time."""

import sqlite3

from registryd.check import rows as check_rows
from registryd.check.upkeep import Upkeep
from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.blobs import Blobs
from registryd.repositories.document import parse_manifest, stated_media_type
from registryd.repositories.engine_images import load_document
from registryd.repositories.manifests import Manifests
from registryd.repositories.model import Row, Unkept
from registryd.repositories.refusal import RefusedError
from sampan import check as kinds
from sampan.check import Finding, Outcome
from sampan.errors import NotFoundError, SampanError
from sampan.oci.digest import Digest
from sampan.store.database import Store

_GONE = Outcome(repaired=True, text="it is gone already")


class Repairer:
    """Repairs what ``RegistryCheck`` finds; looks again first."""

    def __init__(self, store: Store, contents: Contents, blobs: Blobs, manifests: Manifests, upkeep: Upkeep) -> None:
        self._store = store
        self._contents = contents
        self._blobs = blobs
        self._manifests = manifests
        self._upkeep = upkeep

    async def repair(self, finding: Finding) -> Outcome:
        """Repair what ``finding`` names and nothing else. Raises SampanError if it cannot be done now."""
        try:
            return await self._repair(finding)
        except RefusedError as error:  # in terms of a push: what it needs is not here, or wrong itself
            return Outcome(repaired=False, text=str(error))

    async def _repair(self, finding: Finding) -> Outcome:
        if finding.kind == kinds.REGISTRY_LABEL:
            return await self._label(finding.subject)
        if finding.kind == kinds.REGISTRY_UPLOAD:
            return await self._upload(finding.subject)
        if finding.subject.startswith("tags/"):
            return await self._tag(finding.subject.removeprefix("tags/"))
        row = await self._store.read(lambda db: check_rows.find(db, finding.subject))
        if row is None:
            return await self._unrecorded(finding.subject) if finding.kind == kinds.REGISTRY_ROW else _GONE
        try:
            size = await self._contents.size(row.digest)
        except NotFoundError:
            return await self._without_content(row)
        if finding.kind == kinds.REGISTRY_ROW and row.size != size:
            await self._store.write(lambda db: check_rows.set_size(db, row, size))
            return Outcome(repaired=True, text="its size is recorded")
        if finding.kind == kinds.REGISTRY_ROW:
            return await self._references(row)
        await self._contents.keep(row.digest, row.root, row.repository)
        return Outcome(repaired=True, text="its label is set again")

    async def _label(self, subject: str) -> Outcome:
        root, _, digest = subject.partition("@")
        if root in await self._store.read(rows.list_roots):
            return Outcome(repaired=True, text="it has a row by now")
        await self._contents.let_go([Unkept(Digest.parse(digest), root)])
        return Outcome(repaired=True, text="taken back")

    async def _upload(self, ref: str) -> Outcome:
        if await self._upkeep.drop_abandoned(ref):
            return Outcome(repaired=True, text="dropped")
        return _GONE

    async def _tag(self, name: str) -> Outcome:
        repository, _, tag = name.rpartition(":")
        dangling = await self._store.read(check_rows.dangling_tags)
        digest = next((each[2] for each in dangling if each[:2] == (repository, tag)), None)
        if digest is None:
            return _GONE
        if await self._record_manifest(repository, digest):
            return Outcome(repaired=True, text="its manifest is recorded again")
        await self._store.write(lambda db: rows.delete_tag(db, repository, tag))
        return Outcome(repaired=True, text="removed: its manifest is not here")

    async def _unrecorded(self, subject: str) -> Outcome:
        table, _, rest = subject.partition("/")
        repository, _, text = rest.partition("@")
        digest = Digest.parse(text)
        if table == "manifests":
            done = await self._record_manifest(repository, digest)
        else:
            done = await self._blobs.adopt(repository, digest)
        return Outcome(repaired=done, text="recorded again" if done else "its content is not here: push it again")

    async def _record_manifest(self, repository: str, digest: Digest) -> bool:
        try:
            data = await load_document(self._contents, digest)
            media_type = stated_media_type(data)
            for blob in parse_manifest(data, media_type).blobs:
                if await self._store.read(
                    lambda db, blob=blob: rows.blob_size(db, repository, blob.digest) is None  # type: ignore[misc]
                ):
                    await self._blobs.adopt(repository, blob.digest)
            await self._manifests.put(repository, digest, media_type, data)
        except (SampanError, ValueError):
            return False
        return True

    async def _without_content(self, row: Row) -> Outcome:
        if row.table == "manifests":
            return Outcome(repaired=False, text="push it again: only this registry has it")
        try:
            unkept = await self._store.write(lambda db: rows.delete_blob(db, row.repository, row.digest))
        except sqlite3.IntegrityError:
            return Outcome(repaired=False, text="push it again: a manifest refers to it")
        await self._contents.let_go(unkept)
        return Outcome(repaired=True, text="forgotten: no manifest refers to it")

    async def _references(self, row: Row) -> Outcome:
        manifest = parse_manifest(await load_document(self._contents, row.digest), row.media_type)

        def record(db: sqlite3.Connection) -> None:
            check_rows.describe_again(db, row.repository, manifest)
            rows.put_manifest(db, row.repository, manifest, row.root, None)

        await self._store.write(record)
        return Outcome(repaired=True, text="recorded again")
