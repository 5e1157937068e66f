"""What nobody comes back for: labels without a row, blobs without a manifest, uploads without an end."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from registryd.protocol import Contents
from registryd.repositories import store as rows
from registryd.repositories.roots import Roots
from registryd.repositories.uploads import Visits
from sampan.errors import NotFoundError, SampanError, UnavailableError
from sampan.log import log
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

_EVERY_S: Final = 600.0


class Upkeep:
    """As a context manager it looks after the registry while the process runs."""

    def __init__(
        self,
        store: Store,
        contents: Contents,
        unused_s: float,
        roots: Roots,
        visits: Visits,
        now_ns: Callable[[], int] = time.time_ns,
        set_aside: SetAside | None = None,
    ) -> None:
        self._set_aside = set_aside or SetAside()
        self._roots = roots
        self._visits = visits
        self._store = store
        self._contents = contents
        self._unused_ns = int(unused_s * 1e9)
        self._every_s = min(_EVERY_S, unused_s)
        self._now_ns = now_ns
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._forever(), name="upkeep")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def recover(self) -> None:
        """Take back labels that have no row: a killed process set them, or removed their rows; call before serving.

        Raises:
            UnavailableError: the content store does not answer.
        """
        # In this order, the opposite of that in which they come to be: a label is pending, then set, then has a row.
        found = [root async for root in self._contents.roots()]
        pending = self._roots.pending()
        known = await self._store.read(rows.list_roots)
        unkept = [each for each in found if each.root not in pending and each.root not in known]
        for each in unkept:
            try:
                await self._contents.let_go([each])
            except UnavailableError:
                raise
            except SampanError as error:
                self._set_aside.add("label", each.digest, str(error))
            else:
                self._set_aside.drop("label", each.digest)
        if unkept:
            log.info("labels without a row taken back", count=len(unkept))

    def is_abandoned(self, grown_ns: int) -> bool:
        """Say whether an upload that grew last then has been left."""
        return grown_ns + self._unused_ns <= self._now_ns()

    async def drop_abandoned(self, only: str = "") -> list[str]:
        """Drop all uploads that have been left, or that one; return their refs.

        The content store drops what it is told to, even if it has grown since it was looked at. So none is dropped that
        anybody has come to since then, and who comes while it is being dropped comes too late.
        """
        dropped = []
        with self._visits.noted() as noted:
            for ref, grown_ns in await self._contents.writes():
                if only in ("", ref) and self.is_abandoned(grown_ns) and ref not in noted:
                    with self._visits.leaving(ref), suppress(NotFoundError, UnavailableError):  # it is over, or goes on
                        await self._contents.abort(ref)
                        dropped.append(ref)
        return dropped

    async def sweep(self) -> None:
        """Drop uploads that have not grown, and blobs without a manifest, for long enough; and labels without a row.

        A label may lose its row, or get none, while the registry runs: the content store was away when it was to be
        taken back, or finished late what a killed process had asked for.
        """
        await self.recover()
        now_ns = self._now_ns()
        for ref in await self.drop_abandoned():
            log.info("abandoned upload dropped", ref=ref)
        unkept = await self._store.write(lambda db: rows.delete_unused_blobs(db, now_ns))
        await self._contents.let_go(unkept)
        if unkept:
            log.info("blobs without a manifest removed", count=len(unkept))

    async def _forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except SampanError as error:
                log.warning("upkeep failed, it will be tried again", error=str(error))
            await asyncio.sleep(self._every_s)
