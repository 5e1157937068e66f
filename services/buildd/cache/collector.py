"""The build cache as a whole: what it takes, and how it is kept within bounds."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol, Self

from buildd.cache.bounds import Bounds
from buildd.cache.model import Record, RecordType, Shelf
from buildd.cache.prune import DiskSpace, choose, record_filter
from buildd.meter import UNMETERED, Meter
from sampan.build.request import PruneOptions, UsageRecord
from sampan.disk import IMAGE, Root
from sampan.errors import SampanError
from sampan.log import log
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.snapshot import SnapshotUsage

# After a build, until the cache is looked at: that takes a while.
_PAUSE_S: Final = 60.0

_AT_ONCE: Final = 50  # records that one transaction removes

_GB: Final = 1_000_000_000
_DAY_NS: Final = 24 * 60 * 60 * 10**9


class StoredLayers(Protocol):
    """The part of ``resource.storage.snapshots.Layers`` that is needed."""

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        """Return what each snapshot takes."""


class Roots(Protocol):
    """The part of ``resource.storage.images.Images`` that is needed."""

    async def roots(self) -> Sequence[Root]:
        """Return who needs which layers unpacked."""


def policy(bounds: Bounds, disk_bytes: int) -> tuple[PruneOptions, ...]:
    """Return what is pruned by itself, one after another, as BuildKit's default policy has it.

    First what is cheap to make again and was not used for two days, beyond half a gigabyte; then what was not used for
    60 days; then whatever is least recently used, at last also what images share.
    """
    if bounds.rules:
        return bounds.rules
    limits = PruneOptions(
        reserved_bytes=bounds.reserved_bytes or min(disk_bytes // 10, 10 * _GB),
        max_used_bytes=bounds.max_used_bytes or min(disk_bytes * 6 // 10, 100 * _GB),
        min_free_bytes=bounds.min_free_bytes or disk_bytes // 5,
    )
    cheap = ("type==source.local", "type==source.git.checkout", "type==exec.cachemount")
    return (
        PruneOptions(cheap, keep_duration_ns=2 * _DAY_NS, max_used_bytes=_GB // 2),
        replace(limits, keep_duration_ns=60 * _DAY_NS, max_used_bytes=0, min_free_bytes=0),
        limits,
        replace(limits, all=True),
    )


class BuildCache:
    """All records. As a context manager it also prunes by itself, soon after builds have ended."""

    def __init__(
        self,
        shelves: Sequence[Shelf],
        layers: StoredLayers,
        images: Roots,
        directory: Path,
        now_ns: Callable[[], int],
        bounds: Bounds | None = None,
        *,
        meter: Meter = UNMETERED,
        pause_s: float = _PAUSE_S,
        reach: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``directory`` is on the disk that counts. ``bounds`` None: nothing is pruned by itself.

        ``reach`` returns when the services that keep what is recorded can be called; they may be being restarted.
        """
        self._shelves = tuple(shelves)
        self._layers = layers
        self._images = images
        self._directory = directory
        self._now_ns = now_ns
        self._bounds = bounds
        self._meter = meter
        self._pause_s = pause_s
        self._reach = reach
        self._poked = asyncio.Event()
        self._pruning = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._bounds is not None:
            self._poked.set()  # the last life may have ended before it looked
            self._keeping = asyncio.create_task(self._keep_within_bounds(), name="build cache")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))

    @property
    def is_due(self) -> bool:
        """Whether it is going to prune by itself soon, or does."""
        return self._poked.is_set() or self._pruning.locked()

    async def is_empty(self) -> bool:
        """Whether there are no records. Asks nobody else; measures some of what it finds, and may be cancelled."""
        for shelf in self._shelves:
            if await shelf.records():
                return False
        return True

    def poke(self) -> None:
        """Say that the cache may have grown."""
        self._poked.set()

    async def usage(self, filters: Sequence[str] = (), unused_ns: int = 0) -> Sequence[UsageRecord]:
        """Return the records that any of ``filters`` accepts and nobody has used for ``unused_ns``; see ``prune``.

        Raises:
            InvalidArgumentError: a filter that cannot be.
            UnavailableError: imaged or the snapshotter does not answer.
        """
        accept = record_filter(filters, self._now_ns())
        records = [each for shelf in await self._measured() for each in shelf]
        self._show(records)
        latest = self._now_ns() - unused_ns
        return [_shown(each) for each in records if accept(each) and (not unused_ns or each.used_ns <= latest)]

    async def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """Remove records and yield each that is gone.

        Raises:
            InvalidArgumentError: a filter that cannot be.
            UnavailableError: imaged or the snapshotter does not answer; what was yielded is gone.
        """
        async with self._pruning, aclosing(self._prune(await self._measured(), (options,))) as removed:
            async for record in removed:
                yield _shown(record)

    async def _prune(
        self, shelves: Sequence[Sequence[Record]], rules: Sequence[PruneOptions]
    ) -> AsyncGenerator[Record, None]:
        homes = {each.id: shelf for shelf, found in zip(self._shelves, shelves, strict=True) for each in found}
        left = {each.id: each for found in shelves for each in found}
        try:
            for rule in rules:
                disk = await asyncio.to_thread(_space, self._directory)
                chosen = choose(list(left.values()), rule, disk, self._now_ns())
                for shelf, some in groupby(chosen, key=lambda each: homes[each.id]):
                    for batch in _batches(list(some)):
                        gone = await shelf.remove([each.id for each in batch])
                        for record in [left.pop(each.id) for each in batch if each.id in gone]:
                            yield record
        finally:
            self._show(left.values())

    def _show(self, records: Iterable[Record]) -> None:
        taken: dict[str, tuple[int, int]] = {each.value: (0, 0) for each in RecordType}
        for record in records:
            count, size = taken[record.type.value]
            taken[record.type.value] = count + 1, size + record.size_bytes
        self._meter.cache(taken)

    async def keep_within_bounds(self) -> int:
        """Prune as the policy has it, and return how many bytes were pruned. Raises as ``prune``."""
        if self._bounds is None:
            return 0
        disk = await asyncio.to_thread(_space, self._directory)
        pruned = 0
        async with self._pruning:
            async for record in self._prune(await self._measured(), policy(self._bounds, disk.total_bytes)):
                pruned += record.size_bytes
        return pruned

    async def _keep_within_bounds(self) -> None:
        while True:
            await self._poked.wait()
            await asyncio.sleep(self._pause_s)  # another build may follow, which has better things to do
            self._poked.clear()
            try:
                pruned = await self.keep_within_bounds()
                if pruned:
                    log.info("build cache pruned", bytes=pruned)
            except SampanError as error:
                log.warning("build cache not pruned this time", error=str(error))
            except Exception:  # noqa: BLE001 - the next time finds what this one has left
                log.exception("pruning of the build cache failed")

    async def _measured(self) -> list[list[Record]]:
        """Return the records of each shelf, with their sizes, and whether images share them."""
        if self._reach is not None:
            await self._reach()
        shelves = [list(await shelf.records()) for shelf in self._shelves]
        if not any(shelves):
            return shelves
        sizes = {each.diff_id: each.usage.size_bytes for each in await self._layers.usages(committed=True)}
        stacks = {
            chain
            for root in await self._images.roots()
            if root.holder.kind == IMAGE
            for chain in chain_ids(map(Digest, root.diff_ids))
        }
        counted: set[Digest] = set()
        measured: dict[str, Record] = {}
        # A layer is on disk once, and counts for the record that has the fewest others below it.
        trees = [each for shelf in shelves for each in shelf if each.layers]
        for record in sorted(trees, key=lambda each: (len(each.layers), each.created_ns, each.id)):
            size = 0
            for layer in record.layers:
                if layer.diff_id not in counted:
                    counted.add(layer.diff_id)
                    size += sizes.get(layer.diff_id, layer.descriptor.size)
            shared = chain_ids(layer.diff_id for layer in record.layers)[-1] in stacks
            measured[record.id] = replace(record, size_bytes=size, shared=shared)
        return [[measured.get(each.id, each) for each in shelf] for shelf in shelves]


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), _AT_ONCE):
        yield records[start : start + _AT_ONCE]


def _space(directory: Path) -> DiskSpace:
    found = os.statvfs(directory)
    return DiskSpace(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def _shown(record: Record) -> UsageRecord:
    return UsageRecord(
        id=record.id,
        size_bytes=record.size_bytes,
        description=record.description,
        type=record.type.value,
        parents=record.parents,
        mutable=record.mutable,
        in_use=record.in_use,
        shared=record.shared,
        created_ns=record.created_ns,
        last_used_ns=record.used_ns,
        usage_count=record.uses,
    )
