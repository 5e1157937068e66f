"""Results of steps, by cache key.

A result is a row, and a lease that keeps its layers. Making one: the lease, then the row. Removing one: the row, then
the lease. ``recover`` puts right what a kill has left between the two. What a build has found or made is in use until
it lets go of it, and is not removed before; all that is in memory alone, since no build outlives the process.

Nobody waits for the disk: rows that a power cut takes, or brings back, meet leases that say otherwise at the next
start.
"""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from buildd.cache import rows
from buildd.cache.keeper import Keeper
from buildd.cache.model import About, Found, Record, record_id
from buildd.protocol import Tree
from sampan.cancellation import to_the_end
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.store.database import Store

T = TypeVar("T")

_REMEMBERED: Final = 1024  # results that need no look into the database


class Results:
    """A ``Shelf`` of results."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        now_ns: Callable[[], int],
        new_id: Callable[[], str] = lambda: record_id(secrets.token_bytes(25)),
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._now_ns = now_ns
        self._new_id = new_id
        self._in_use: Counter[str] = Counter()
        self._known: OrderedDict[Digest, tuple[tuple[str, Tree], ...]] = OrderedDict()  # what was last found or added
        self._quick: OrderedDict[Digest, Digest] = OrderedDict()
        self._removals = 0  # how often rows were removed
        self._additions = 0  # and added
        self._leases: set[str] = set()  # leases that may have no row

    async def recover(self) -> None:
        """Remove results without a lease, leases without a result, and results whose place others have taken.

        Raises:
            UnavailableError: imaged does not answer.
        """
        kept = set(await self._keeper.kept())
        found = await self._store.read(rows.ids)
        lost = [name for name, filled, superseded in found if superseded or (filled and name not in kept)]
        if lost:
            await self._store.write(lambda db: rows.delete(db, lost))
        gone = sorted(kept - ({name for name, _, _ in found} - set(lost)))
        if gone:
            await self._keeper.release(gone)
        if lost or gone:
            log.info("build cache recovered", removed_records=len(lost), released_leases=len(gone))

    async def key_of(self, quick: Digest) -> Digest | None:
        """Return the key that ``quick`` has led to."""
        known = self._quick.get(quick)
        if known is None:
            known = await self._store.read(lambda db: rows.quick(db, quick))
            if known is not None:
                _remember(self._quick, quick, known)
        return known

    async def remember_quick(self, quick: Digest, key: Digest) -> None:
        """Note what ``quick`` leads to."""
        now = self._now_ns()
        await self._store.write(lambda db: rows.remember_quick(db, quick, key, now), durable=False)
        _remember(self._quick, quick, key)

    async def find(self, key: Digest) -> Found | None:
        """Return a step's outputs if all of them are here; let go of them later."""
        known = self._known.get(key)
        if known is not None:
            return self._taken(known)
        while True:
            before = self._removals, self._additions
            results = await self._store.read(lambda db: rows.find(db, key))
            if before == (self._removals, self._additions):
                break  # else what was read may have been on its way out, and what was not there may be
        if not results:
            return None
        _remember(self._known, key, tuple(results))
        return self._taken(results)

    async def add(self, key: Digest, outputs: Sequence[Tree], about: About, quick: Digest | None = None) -> Found:
        """Record a step's outputs; let go of them later. What the step had before goes when nobody uses it.

        ``quick`` is another key that leads to them.

        Raises:
            NotFoundError: a layer is nowhere any more.
            NoSpaceError: the disk is full.
        """
        results = [(self._new_id(), tree) for tree in outputs]
        found = self._taken(results)
        try:
            for name, tree in results:
                self._leases.add(name)  # until there is a row
                if tree.layers:
                    await self._keeper.keep(name, tree.layers)
            now = self._now_ns()
            insert = partial(rows.insert, key=key, results=results, about=about, now_ns=now)
            old = await self._store.write(insert, durable=False)
            self._additions += 1
            _remember(self._known, key, tuple(results))
            self._leases.difference_update(found.ids)
            if quick is not None:
                await self.remember_quick(quick, key)
            await self.remove(old)
        except BaseException:
            self._unused(found.ids)
            await to_the_end(self._release())
            raise
        return found

    def _taken(self, results: Sequence[tuple[str, Tree]]) -> Found:
        ids = tuple(name for name, _ in results)
        self._in_use.update(ids)
        return Found(ids, tuple(tree for _, tree in results))

    async def let_go(self, ids: Collection[str]) -> None:
        """Use them no longer, and note that they were used."""
        self._unused(ids)
        distinct, now = sorted(set(ids)), self._now_ns()
        if not distinct:
            return
        await self.remove(await self._store.write(lambda db: rows.used(db, distinct, now), durable=False))

    def _unused(self, ids: Collection[str]) -> None:
        self._in_use.subtract(ids)
        for name in ids:
            if self._in_use[name] <= 0:
                del self._in_use[name]

    async def created(self, ids: Collection[str]) -> Mapping[str, int]:
        """Return when records were made, by their IDs, in nanoseconds since the epoch."""
        return await self._store.read(lambda db: rows.created(db, ids)) if ids else {}

    async def records(self) -> Sequence[Record]:
        """See ``Shelf``."""
        found = await self._store.read(rows.every)
        return [replace(each, in_use=each.id in self._in_use) for each in found]

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        # To the end: a row may go though whoever asked for it is cancelled, and its lease would stay.
        return await to_the_end(self._remove(ids))

    async def _remove(self, ids: Collection[str]) -> Collection[str]:
        gone = [name for name in ids if name not in self._in_use]
        if gone:
            self._removals += 1
            self._unknow(gone)
            self._leases.update(gone)
            await self._store.write(lambda db: rows.delete(db, gone), durable=False)
        await self._release()
        return gone

    async def _release(self) -> None:
        """Give back leases that have no row: of what was removed, and of what was given up before it had one."""
        idle = [name for name in self._leases if name not in self._in_use]
        if not idle:
            return
        here = await self._store.read(lambda db: {name for name, _, _ in rows.ids(db)})
        await self._keeper.release([name for name in idle if name not in here])
        self._leases.difference_update(idle)

    async def forget(self, ids: Collection[str]) -> None:
        """Take results whose layers are lost out of the way: nobody finds them, and they go when they are let go of."""
        self._removals += 1
        self._unknow(ids)
        await self._store.write(lambda db: rows.supersede(db, ids), durable=False)

    def _unknow(self, ids: Collection[str]) -> None:
        those = set(ids)
        for key in [key for key, results in self._known.items() if any(name in those for name, _ in results)]:
            del self._known[key]
        self._quick.clear()


def _remember(memory: "OrderedDict[Digest, T]", key: Digest, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
