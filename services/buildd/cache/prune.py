"""Which records a prune takes: arithmetic on records, without a look at a disk.

The filters are containerd's expressions over BuildKit's fields: ``id``, ``parents`` (IDs, joined by ``;``), ``type``,
``description``, and ``inuse``, ``mutable``, ``immutable``, ``shared``, ``private``, which are there or not. Besides,
``until==24h`` or ``until==2026-01-31`` stands for what was not used since.

Reference: moby/buildkit, cache/manager.go, "Prune"; client/diskusage.go.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from buildd.cache.model import Record, RecordType
from sampan.build.request import PruneOptions
from sampan.docker.times import parse_moment
from sampan.filter_expressions import parse_filters

_UNTIL: Final = "until=="
_OWN: Final = frozenset((RecordType.INTERNAL, RecordType.FRONTEND))
_TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk that the cache is on."""

    total_bytes: int
    free_bytes: int


def record_filter(texts: Iterable[str], now_ns: int) -> Callable[[Record], bool]:
    """Return a test whether any of the filters accepts a record, or there is none.

    Raises:
        InvalidArgumentError: an expression that is none; a moment that is none.
    """
    expressions, untils = [], []
    for text in texts:
        if text.startswith(_UNTIL):
            untils.append(parse_moment(text.removeprefix(_UNTIL).strip('"'), now_ns))
        else:
            expressions.append(text)
    accept = parse_filters(expressions)
    before = min(untils, default=None)
    return lambda record: (before is None or record.used_ns < before) and accept(_fields(record))


def _fields(record: Record) -> Callable[[tuple[str, ...]], str | None]:
    def field(path: tuple[str, ...]) -> str | None:
        match path:
            case ("id",):
                return record.id
            case ("parents",):
                return ";".join(record.parents) or None
            case ("type",):
                return record.type.value
            case ("description",):
                return record.description or None
            case ("inuse",):
                return _TRUE if record.in_use else None
            case ("mutable",):
                return _TRUE if record.mutable else None
            case ("immutable",):
                return None if record.mutable else _TRUE
            case ("shared",):
                return _TRUE if record.shared else None
            case ("private",):
                return None if record.shared else _TRUE
        return None

    return field


def choose(records: Sequence[Record], options: PruneOptions, disk: DiskSpace, now_ns: int) -> list[Record]:
    """Return what goes, in an order in which nothing goes before what was made from it.

    Records in use stay, and those that such were made from. Without limits all that matches goes; with limits the least
    recently used go first, until the rest fits.

    Raises:
        InvalidArgumentError: a filter that cannot be.
    """
    accept = record_filter(options.filters, now_ns)
    oldest_kept = now_ns - options.keep_duration_ns
    total = sum(each.size_bytes for each in records if options.all or not each.shared)
    limit = _limit(total, options, disk)

    def may_go(record: Record) -> bool:
        if record.in_use or not (options.all or not (record.shared or record.type in _OWN)):
            return False
        return (not options.keep_duration_ns or record.used_ns < oldest_kept) and accept(record)

    by_id = {each.id: each for each in records}
    # A key is of content, so a step may lead to the record that it was made from, once that was made anew: of COPY of
    # what another stage has copied alike. What is older than its parent does not hold it, or nothing of a circle went.
    parents = {
        each.id: [name for name in each.parents if name in by_id and by_id[name].created_ns < each.created_ns]
        for each in records
    }
    children = Counter(parent for several in parents.values() for parent in several)
    waiting = [(each.used_ns, each.uses, each.id) for each in records if not children[each.id] and may_go(each)]
    heapq.heapify(waiting)
    chosen = []
    while waiting and (limit is None or total > limit):
        record = by_id[heapq.heappop(waiting)[2]]
        chosen.append(record)
        total -= record.size_bytes if options.all or not record.shared else 0
        for parent in parents[record.id]:
            children[parent] -= 1
            if not children[parent] and may_go(by_id[parent]):
                found = by_id[parent]
                heapq.heappush(waiting, (found.used_ns, found.uses, found.id))
    return chosen


def _limit(total: int, options: PruneOptions, disk: DiskSpace) -> int | None:
    """Return how many bytes may stay; None: no limit was given, so nothing needs to."""
    if not (options.max_used_bytes or options.reserved_bytes or options.min_free_bytes):
        return None
    limits = []
    if options.max_used_bytes:
        limits.append(options.max_used_bytes)
    if options.min_free_bytes:
        limits.append(total - max(0, options.min_free_bytes - disk.free_bytes))
    return max(min(limits, default=0), options.reserved_bytes)
