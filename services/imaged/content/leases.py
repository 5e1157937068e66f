"""Leases: what a fetch gets is kept until somebody names it, lets it go, or forgets about it."""

import asyncio
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from sampan.errors import NotFoundError, ResourceExhaustedError, SampanError, UnavailableError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.store.database import Store

_RETRY_S: Final = 60.0
_SETTLE_S: Final = 5.0
_FOR_EVER_NS: Final = 10 * 365 * 24 * 3600 * 10**9


class Leases:
    """All leases. As a context manager it ends those that expire while the process runs."""

    def __init__(
        self,
        store: Store,
        content: ContentStore,
        lifetime_s: float,
        now_ns: Callable[[], int] = time.time_ns,
        *,
        abandoned_s: float = 24 * 3600.0,
    ) -> None:
        self._store = store
        self._content = content
        self._lifetime_ns = int(lifetime_s * 1e9)
        self._abandoned_ns = int(abandoned_s * 1e9)
        self._now_ns = now_ns
        self._changed = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._bound: Counter[str] = Counter()  # leases that clients keep, and how many do
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._expire(), name="lease expiry")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Wait for operations that are being cancelled to let go of what they fetched."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("leases still open; the next start ends them", count=self._open)
        if self._ending:
            await asyncio.wait(tuple(self._ending), timeout=_SETTLE_S)

    async def recover(self) -> None:
        """Abandon leases whose fetch was killed, end those that expired; call before ``ContentStore.recover``."""

        def end(db: sqlite3.Connection) -> None:
            rows.abandon_killed(db, self._now_ns() + self._abandoned_ns)
            rows.cap_leases(db, self._now_ns() + self._lifetime_ns)
            rows.delete_leases(db, rows.stale_leases(db, self._now_ns()))

        await self._store.write(end)

    @asynccontextmanager
    async def held(self, source: str = "", abandon_on: tuple[type[BaseException], ...] = ()) -> AsyncIterator[str]:
        """Yield a new lease for an operation that adds content.

        At the end of the block the lease is complete. If the block fails or is cancelled it is released, or with an
        error of ``abandon_on`` abandoned.
        """
        self._open += 1
        self._idle.clear()
        try:
            lease = await self.begin(source)
            try:
                yield lease
                await self.complete(lease)
            except abandon_on:
                await self.abandon(lease)
                raise
            except BaseException:
                await self.let_go(lease)
                raise
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def begin(self, source: str = "") -> str:
        """Return a new lease; ``source`` is where its content comes from, a registry and repository.

        It does not expire before ``complete``, and a new process does not honour it before that either.
        """
        lease = secrets.token_hex(16)
        with storing("lease"):
            await self._store.write(lambda db: rows.insert_lease(db, lease, source, self._now_ns() + self._lifetime_ns))
        return lease

    async def hold(self, lease: str, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Keep content that is here or will be; return the size of each blob that is here now."""
        wanted = tuple(digests)
        with storing("lease"):
            return await self._store.write(lambda db: rows.hold(db, lease, wanted))

    async def expect(self, lease: str, diff_ids: Iterable[Digest]) -> None:
        """Say what the content will be unpacked to: these layers, base first, and their stack stay as the lease does.

        Call it before anybody learns of the layers. The note need not outlive the machine's power: neither does
        whoever unpacks.
        """
        layers = tuple(diff_ids)
        with storing("lease"):
            await self._store.write(lambda db: rows.set_lease_layers(db, lease, layers), durable=False)

    async def complete(self, *leases: str) -> None:
        """Say that everything is here, for all of them or none: from now on the leases' time runs."""

        def complete(db: sqlite3.Connection) -> None:
            for lease in leases:
                rows.complete_lease(db, lease, self._expires_ns(lease))

        with storing("lease"):
            await self._store.write(complete)
        self._changed.set()

    @asynccontextmanager
    async def bound(self, leases: Sequence[str], stopping: asyncio.Event) -> AsyncIterator[tuple[str, ...]]:
        """Keep leases, a new one if there are none, for as long as the block lasts, which is a client's call.

        What is left of them at its end is abandoned, if it is a fetch's, or released. Only when the service stops they
        stay as they are, for a client that comes back to the next process.

        Raises:
            UnavailableError: one is over.
        """
        kept = tuple(leases) or (await self.begin(),)
        self._bound.update(kept)
        try:
            await self._bind(kept)
            yield kept
        finally:
            for lease in kept:
                self._bound[lease] -= 1
                if not self._bound[lease]:
                    del self._bound[lease]
                    if not stopping.is_set():
                        await self._finish(self._end_bound(lease))

    async def _bind(self, leases: Sequence[str]) -> None:
        def bind(db: sqlite3.Connection) -> None:
            for lease in leases:
                if rows.lease_source(db, lease) is None:
                    raise UnavailableError(f"lease {lease!r} is over: what it was for broke off; try again")
                rows.bind_lease(db, lease, self._expires_ns(lease))

        with storing("lease"):
            await self._store.write(bind)

    async def _finish(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` to its end, however often whoever waits for it is cancelled."""
        task = asyncio.create_task(work, name="end of a lease")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    async def _end_bound(self, lease: str) -> None:
        source = await self._store.read(lambda db: rows.lease_source(db, lease))
        if source is None:
            return  # its content has a name, or was given back
        await (self.abandon if source else self.let_go)(lease)

    def _expires_ns(self, lease: str) -> int:
        """Return until when a complete lease holds; one that is bound ends with its client."""
        return self._now_ns() + (_FOR_EVER_NS if lease in self._bound else self._lifetime_ns)

    async def release(self, lease: str) -> None:
        """End a lease and remove what nothing else keeps.

        Raises:
            NotFoundError: there is no such lease; it may have expired.
        """

        def end(db: sqlite3.Connection) -> list[str]:
            if rows.lease_source(db, lease) is None:
                raise NotFoundError(f"lease {lease!r} does not exist")
            return rows.delete_leases(db, [lease])

        await self._content.drop_unused(end)

    async def abandon(self, lease: str) -> None:
        """Keep what a fetch got that broke off, so that the next one need not fetch it again; for a while only.

        It goes earlier if the disk is full, or with the first image from the same source that gets its name. It is
        done also if the caller is cancelled meanwhile.
        """
        await self._finish(self._abandon(lease))

    async def _abandon(self, lease: str) -> None:
        try:
            with storing("lease"):
                await self._store.write(lambda db: rows.abandon_lease(db, lease, self._now_ns() + self._abandoned_ns))
        except ResourceExhaustedError as error:  # the next start does it
            log.warning("lease not abandoned", lease=lease, error=str(error))
        self._changed.set()

    async def end_abandoned(self) -> tuple[int, dict[Digest, int]]:
        """Remove what fetches left that broke off; return how many did, and the sizes of what is gone."""
        abandoned: list[str] = []

        def end(db: sqlite3.Connection) -> list[str]:
            abandoned.extend(rows.abandoned_leases(db))
            return rows.delete_leases(db, abandoned)

        gone = await self._content.drop_unused(end)
        return len(abandoned), gone

    async def end_expired(self) -> tuple[int, dict[Digest, int]]:
        """Remove what leases held whose time is up; return how many were, and the sizes of what is gone."""
        expired: list[str] = []

        def end(db: sqlite3.Connection) -> list[str]:
            expired.extend(rows.expired_leases(db, self._now_ns()))
            return rows.delete_leases(db, expired)

        gone = await self._content.drop_unused(end)
        for lease in expired:
            log.info("lease expired", lease=lease)
        return len(expired), gone

    async def let_go(self, lease: str) -> None:
        """Release what a failed operation fetched; a failure of that is logged, so that it does not hide the first.

        It is done also if the caller is cancelled meanwhile.
        """
        await self._finish(self._let_go(lease))

    async def _let_go(self, lease: str) -> None:
        try:
            await self.release(lease)
        except SampanError as error:  # the disk is full: the next start removes what is left
            log.warning("lease not released", lease=lease, error=str(error))

    async def _expire(self) -> None:
        while True:
            self._changed.clear()
            due_ns = await self._store.read(rows.next_expiry_ns)
            delay_s = None if due_ns is None else max(0.0, (due_ns - self._now_ns()) / 1e9)
            try:
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()
            except TimeoutError:
                await self._end_expired_or_wait()

    async def _end_expired_or_wait(self) -> None:
        try:
            await self.end_expired()
        except ResourceExhaustedError as error:
            log.warning("expired leases stay for now", error=str(error))
            await asyncio.sleep(_RETRY_S)
