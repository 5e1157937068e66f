"""Garbage collection of content: find what nothing needs, whatever was killed where, and remove it.

What keeps a blob is said once, in ``store``: an image, a lease, a root label, a hold that has not run out. Removals
ask nobody else, so a pass is a look through all rows for what a removal that was cut short has left, in steps so
small that the writes of a pull go in between; each step looks again before it removes anything.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.content.leases import Leases
from imaged.content.partial import Partials
from imaged.gc.usage import ContentUsage, drop_strays
from sampan.disk import NOTHING_FREED, Freed, StoredObject
from sampan.store.database import Store

# Rows looked at in one step, and blobs removed in one: some milliseconds each.
_LOOK: Final = 500
_REMOVE: Final = 50


class ContentCollector:
    """Satisfies ``sampan.disk.Collector``."""

    kinds: Sequence[str] = ("lease", "blob", "stray", "ingest", "partial")

    def __init__(
        self,
        store: Store,
        content: ContentStore,
        ingests: Ingests,
        partials: Partials,
        leases: Leases,
        usage: ContentUsage,
        *,
        keep_s: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``keep_s`` is how long a write that nobody goes on with is kept."""
        self._store = store
        self._content = content
        self._ingests = ingests
        self._partials = partials
        self._leases = leases
        self._usage = usage
        self._keep_s = keep_s
        self._now_ns = now_ns

    async def collect(self, *, leftovers: bool) -> Mapping[str, Freed]:
        """See ``sampan.disk.Collector``."""
        leases, gone = await self._leases.end_expired()
        if leftovers:
            ended, more = await self._leases.end_abandoned()
            leases, gone = leases + ended, gone | more
        blobs = Freed(len(gone), sum(gone.values())) + await self._unused()
        ingests = await self._ingests.expire(self._keep_s)
        strays = await drop_strays(self._store, self._content.directory)
        return {
            "lease": Freed(leases),
            "blob": blobs,
            "ingest": Freed(len(ingests), sum(ingests)),
            "stray": Freed(len(strays), sum(strays)),
            "partial": await self._partials.sweep(everything=leftovers),
        }

    async def _unused(self) -> Freed:
        freed, after = NOTHING_FREED, ""
        while True:
            now_ns = self._now_ns()
            found, end = await self._store.read(
                lambda db, now_ns=now_ns, after=after: rows.unused(db, now_ns, after, _LOOK)  # type: ignore[misc]
            )
            for first in range(0, len(found), _REMOVE):
                batch = found[first : first + _REMOVE]
                gone = await self._content.drop_unused(lambda _, batch=batch: batch)  # type: ignore[misc]
                freed += Freed(len(gone), sum(gone.values()))
            if end is None:
                return freed
            after = end

    def objects(self, *, measure: bool) -> AsyncGenerator[Sequence[StoredObject], None]:  # noqa: ARG002
        """See ``sampan.disk.Collector``; nothing here takes a walk."""
        return self._usage.objects()
