"""Is what the registry has recorded true? Its rows against the content store, each other, and the file of users."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from registryd.check import rows as check_rows
from registryd.check.repair import Repairer
from registryd.http.htpasswd import Htpasswd
from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.document import parse_manifest
from registryd.repositories.engine_images import load_document
from registryd.repositories.model import Held, Manifest, Row
from registryd.repositories.roots import Roots
from sampan import check as kinds
from sampan.check import Amount, Finding, Means, Outcome, Step
from sampan.errors import DataLossError, NotFoundError, SampanError
from sampan.oci.digest import Digest
from sampan.store.database import Store

_PUSH: Final = "push it again: only this registry has it"


class RegistryCheck:
    """Satisfies ``sampan.check.Checker``. That content has its digest is imaged's to check."""

    kinds = (
        kinds.REGISTRY_MISSING, kinds.REGISTRY_UNKEPT, kinds.REGISTRY_ROW, kinds.REGISTRY_LABEL, kinds.REGISTRY_UPLOAD,
        kinds.REGISTRY_USERS,
    )  # fmt: skip

    def __init__(
        self,
        store: Store,
        contents: Contents,
        roots: Roots,
        repairer: Repairer,
        users: Htpasswd | None,
        is_abandoned: Callable[[int], bool],
    ) -> None:
        """``is_abandoned`` says so of an upload by when it grew last, in nanoseconds since the epoch."""
        self._store = store
        self._contents = contents
        self._roots = roots
        self._repairer = repairer
        self._users = users
        self._is_abandoned = is_abandoned

    async def check(self, *, quick: bool) -> AsyncGenerator[Step, None]:
        """See ``Checker``; documents are small, and always read. What is pushed or removed meanwhile is no finding."""
        del quick
        recorded = await self._store.read(check_rows.everything)
        held = {each.digest: each async for each in self._contents.held()}
        for done, row in enumerate(recorded):
            yield Amount("registry rows", done, len(recorded))
            async for finding in self._row(row, held.get(row.digest)):
                yield finding
        yield Amount("registry rows", len(recorded), len(recorded))
        for repository, tag, digest in await self._store.read(check_rows.dangling_tags):
            here = digest in held
            yield Finding(
                kinds.REGISTRY_ROW,
                f"tags/{repository}:{tag}",
                f"it leads to {digest}, which is not recorded",
                "record the manifest: it is here" if here else "remove the tag",
                affected=(f"{repository}:{tag}",),
            )
        async for finding in self._rest():
            yield finding

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """See ``Checker``."""
        del means
        if not finding.mendable:
            return Outcome(repaired=False, text=finding.remedy)
        return await self._repairer.repair(finding)

    async def _row(self, row: Row, held: Held | None) -> AsyncGenerator[Finding, None]:
        if held is None or held.size != row.size or row.root not in held.roots:
            again = await self._again(row)
            if again is None:
                return
            row, held = again
        if held is None:
            yield await self._missing(row)
            return
        affected = tuple(await self._store.read(lambda db: check_rows.affected(db, row.repository, row.digest)))
        if held.size != row.size:
            problem = f"it is recorded with {row.size} bytes, and has {held.size}"
            yield Finding(kinds.REGISTRY_ROW, row.subject, problem, "record its size", affected=affected)
        if row.root not in held.roots:
            problem = "its label is gone: nothing keeps its content for it"
            yield Finding(kinds.REGISTRY_UNKEPT, row.subject, problem, "set the label again", affected=affected)
        if row.table == "manifests":
            async for finding in self._manifest(row, affected):
                yield finding

    async def _again(self, row: Row) -> tuple[Row, Held | None] | None:
        """Look at a row a second time: it may have come, gone or changed its label while all were looked through."""
        held = None
        async for each in self._contents.held():
            if each.digest == row.digest:
                held = each
        now = await self._store.read(lambda db: check_rows.find(db, row.subject))
        return None if now is None or now.root != row.root else (now, held)

    async def _missing(self, row: Row) -> Finding:
        used = await self._store.read(lambda db: check_rows.is_used(db, row.repository, row.digest))
        affected = await self._store.read(lambda db: check_rows.affected(db, row.repository, row.digest))
        needed = used or row.table == "manifests"
        return Finding(
            kinds.REGISTRY_MISSING,
            row.subject,
            "its content is not in the content store",
            _PUSH if needed else "forget it: no manifest refers to it",
            mendable=not needed,
            affected=tuple(affected),
        )

    async def _manifest(self, row: Row, affected: tuple[str, ...]) -> AsyncGenerator[Finding, None]:
        manifest = await self._parsed(row)
        if isinstance(manifest, str):
            yield Finding(kinds.REGISTRY_ROW, row.subject, manifest, _PUSH, mendable=False, affected=affected)
            return
        if manifest is None:
            return
        for table, descriptors in (("blobs", manifest.blobs), ("manifests", manifest.children)):
            digests = [each.digest for each in descriptors]
            lost = await self._store.read(
                lambda db, table=table, digests=digests: check_rows.missing(db, row.repository, table, digests)  # type: ignore[misc]
            )
            for digest in lost:
                here = await self._is_here(digest)
                yield Finding(
                    kinds.REGISTRY_ROW,
                    f"{table}/{row.repository}@{digest}",
                    f"{row.digest} refers to it, and it is not recorded",
                    "record it: its content is here" if here else _PUSH,
                    mendable=here,
                    affected=affected,
                )
        problem = await self._store.read(lambda db: check_rows.differs(db, row.repository, manifest))
        if problem:
            remedy = "record again what the manifest says"
            yield Finding(kinds.REGISTRY_ROW, row.subject, problem, remedy, affected=affected)

    async def _parsed(self, row: Row) -> Manifest | str | None:
        """Return a manifest, or why it is none; None if its content is gone or damaged, which is said elsewhere."""
        try:
            return parse_manifest(await load_document(self._contents, row.digest), row.media_type)
        except (NotFoundError, DataLossError):
            return None
        except SampanError as error:
            return str(error)

    async def _is_here(self, digest: Digest) -> bool:
        try:
            await self._contents.size(digest)
        except NotFoundError:
            return False
        return True

    async def _rest(self) -> AsyncGenerator[Finding, None]:
        for ref, grown_ns in await self._contents.writes():
            if self._is_abandoned(grown_ns):
                problem = "nobody has gone on with it for too long"
                yield Finding(kinds.REGISTRY_UPLOAD, ref, problem, "drop the upload")
        if self._users is not None and (problem := await asyncio.to_thread(self._users.problem)):
            yield Finding(
                kinds.REGISTRY_USERS,
                self._users.path.name,
                f"{problem}; the users stay as they were until the registry starts again",
                "repair the file: `htpasswd -B` writes it",
                str(self._users.path),
                mendable=False,
            )
        # Last, since a manifest that is to be recorded again may be kept by one of these. In the order of ``Upkeep``.
        found = [root async for root in self._contents.roots()]
        pending = self._roots.pending()
        known = await self._store.read(rows.list_roots)
        for each in found:
            if each.root not in pending and each.root not in known:
                problem = "content is kept for a row that is not there"
                subject = f"{each.root}@{each.digest}"
                yield Finding(kinds.REGISTRY_LABEL, subject, problem, "take the label back")
