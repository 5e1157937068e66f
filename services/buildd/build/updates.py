"""How one build goes, for everyone who asks, at whatever time: kept in order, bounded, never in the way of a step."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sampan.build.progress import Update, VertexLog, VertexStatus
from sampan.oci.digest import Digest

_MAX_LOG_BYTES: Final = 2 << 20  # of one vertex, as BuildKit has it
_MAX_ALL_LOG_BYTES: Final = 32 << 20  # of one build, since listeners may come late
_STATUS_NS: Final = 100_000_000  # statuses of one part that come faster than that are not told

# Updates that come within this time travel together: a message costs more than what is in it.
_TOGETHER_S: Final = 0.02
_MAX_TOGETHER: Final = 1000  # a message is bounded
_MAX_TOGETHER_BYTES: Final = 1 << 20


class Updates:
    """A ``Progress`` that any number of listeners follow from the beginning."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._kept: list[Update] = []
        self._logged: dict[Digest, int] = {}  # bytes
        self._all_logged = 0
        self._clipped: set[Digest] = set()
        self._told: dict[tuple[Digest, str], int] = {}  # when a status was
        self._news = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def kept(self) -> Sequence[Update]:
        """Everything that was told so far."""
        return self._kept

    def report(self, update: Update) -> None:
        """See ``Progress``."""
        if self._ended.is_set():
            return
        if isinstance(update, VertexLog):
            self._log(update)
        elif isinstance(update, VertexStatus):
            self._status(update)
        else:
            self._keep(update)

    def end(self) -> None:
        """Tell listeners that nothing follows."""
        self._ended.set()
        self._news.set()

    async def follow(self) -> AsyncGenerator[Sequence[Update], None]:
        """Yield all updates to the end, several at a time."""
        at = 0
        while True:
            news, ended = self._news, self._ended.is_set()
            for some in in_messages(self._kept, at):
                at += len(some)
                yield some
            if ended:
                return
            await news.wait()
            try:
                await asyncio.wait_for(self._ended.wait(), _TOGETHER_S)
            except TimeoutError:
                continue

    def _keep(self, update: Update) -> None:
        self._kept.append(update)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _log(self, log: VertexLog) -> None:
        if log.vertex in self._clipped:
            return
        of_vertex = _MAX_LOG_BYTES - self._logged.get(log.vertex, 0)
        left = min(of_vertex, _MAX_ALL_LOG_BYTES - self._all_logged)
        if len(log.data) > left:
            self._clipped.add(log.vertex)
            limit = _MAX_LOG_BYTES if left == of_vertex else _MAX_ALL_LOG_BYTES
            said = f"\n[output clipped, log limit {limit >> 20}MiB reached]\n".encode()
            log = replace(log, data=log.data[:left] + said)
        size = min(len(log.data), left)
        self._logged[log.vertex] = self._logged.get(log.vertex, 0) + size
        self._all_logged += size
        self._keep(log)

    def _status(self, status: VertexStatus) -> None:
        key = status.vertex, status.id
        now = self._now_ns()
        if not status.completed_ns and now - self._told.get(key, 0) < _STATUS_NS:
            return
        self._told[key] = now
        self._keep(status)


def in_messages(updates: Sequence[Update], at: int = 0) -> Iterator[Sequence[Update]]:
    """Yield updates from ``at`` on, as many at a time as travel well; those too that come meanwhile."""
    while at < len(updates):
        some = _together(updates, at)
        at += len(some)
        yield some


def _together(kept: Sequence[Update], at: int) -> Sequence[Update]:
    size = 0
    for number, update in enumerate(kept[at : at + _MAX_TOGETHER]):
        size += len(update.data) if isinstance(update, VertexLog) else 0
        if size > _MAX_TOGETHER_BYTES and number:
            return kept[at : at + number]
    return kept[at : at + _MAX_TOGETHER]
