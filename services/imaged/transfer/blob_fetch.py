"""One blob from one registry: in parts over several connections where that works, in one piece where it does not."""

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imaged.content.partial import Partial
from imaged.content.ranges import Range
from imaged.images.model import PIECE_BYTES
from imaged.metrics import PullMetrics
from imaged.registry.client import RegistryClient
from imaged.registry.errors import Refusal, TransportError
from imaged.registry.retry import RetryPolicy
from imaged.transfer.slots import Slots
from sampan.errors import DataLossError, RemoteError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.resource.transfer import FetchPhase, FetchStep

if TYPE_CHECKING:
    import aiohttp

Report = Callable[[FetchStep], None]

# A part costs a request, and often one more to where the registry redirects it: with this size that is a few percent of
# the time on any line, and a broken connection loses nothing but its request.
PART_BYTES: Final = 16 << 20

# A try that got so much was worth it: the next one counts as the second again.
_WORTHWHILE_BYTES: Final = 1 << 20

# What a slow line delivers is written after so long even if it is no whole piece, and at once when nothing comes any
# more: a killed process loses less, and a client sees what is here.
_LONGEST_PENDING_S: Final = 0.1

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class _RangesUnusableError(Exception):
    """The registry's answers to ranges do not fit what was asked for."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all transfers share."""

    slots: Slots
    retry: RetryPolicy
    metrics: PullMetrics
    connections: int = 3  # most that one blob uses


class Transfer:
    """Fills ``partial`` with what is missing of a blob. Used once.

    The first connection asks for one part after the other, and asks again when something breaks. If the registry
    answers the first range rightly, others join it as long as connections are free; one of these that fails is not
    tried again, since what it leaves is missing and the first one comes to it. A registry that knows no ranges sends
    the blob whole, over one connection.
    """

    def __init__(
        self, descriptor: Descriptor, source: RegistryClient, partial: Partial, means: Means, report: Report
    ) -> None:
        self._descriptor = descriptor
        self._source = source
        self._partial = partial
        self._means = means
        self._report = report
        self._whole = Range(0, descriptor.size)
        self._parts: deque[Range] = deque()
        self._ranged = True  # until the registry shows otherwise
        self._tries = 0  # of the first connection, since one got something
        self._helpers_wanted = True
        self._helpers: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Return when every byte is here and the digest is right.

        Bytes that came in several answers, and do not fit together, are fetched once more in one piece before that
        is called damage: the answers may be of two storage hosts, or of two versions of one object.

        Raises:
            DataLossError: another size or digest than the descriptor's.
            TransportError: the connection broke too often; what came stays in ``partial``.
            Refusal, SampanError: as the client raises them.
            ResourceExhaustedError: the disk is full.
        """
        while True:
            try:
                await self._bring()
            except _RangesUnusableError:
                log.info("registry does not answer ranges rightly", digest=self._descriptor.digest)
                await self._start_over()
                continue
            found = await self._partial.digest()
            if found == self._descriptor.digest:
                return
            if self._partial.answers <= 1:
                raise DataLossError(
                    f"filesystem layer verification failed for digest {self._descriptor.digest}: "
                    f"the registry sent content with digest {found}"
                )
            log.info("parts do not fit together", digest=self._descriptor.digest, found=found)
            await self._start_over()

    async def _start_over(self) -> None:
        self._ranged = False
        await self._partial.clear()

    async def _bring(self) -> None:
        while missing := self._partial.missing():
            self._parts = deque(self._cut(missing))
            try:
                async with asyncio.TaskGroup() as self._group:
                    self._group.create_task(self._work(), name=f"download {self._descriptor.digest.short}")
            except ExceptionGroup as group:
                raise group.exceptions[0] from group

    def _cut(self, missing: list[Range]) -> list[Range]:
        if not self._ranged:
            return [self._whole]
        parts = []
        for gap in missing:
            count = math.ceil(gap.size / PART_BYTES)
            starts = [gap.start + gap.size * position // count for position in range(count)]
            parts += [Range(start, end) for start, end in zip(starts, [*starts[1:], gap.end], strict=True)]
        return parts

    async def _work(self) -> None:
        """Fetch one part after the other, waiting for a connection and trying again."""
        while self._parts:
            await self._insist(self._parts.popleft())

    async def _insist(self, part: Range) -> None:
        while missing := self._partial.missing(part):
            self._tries += 1
            before = self._partial.size
            try:
                async with self._slot():
                    await self._attempt(missing[0] if self._ranged else self._whole)
            except (TransportError, Refusal) as error:
                if self._ranged and self._partial.size - before >= _WORTHWHILE_BYTES:
                    self._tries = 1
                delay_s = self._means.retry.delay_s(error, self._tries)
                if delay_s is None:
                    raise _gave_up(self._descriptor, self._partial, error) from error
                await self._pause(delay_s, error)
            else:
                self._tries = 0

    async def _pause(self, delay_s: float, error: Exception) -> None:
        digest, size = self._descriptor.digest, self._descriptor.size
        self._means.metrics.retry()
        log.info("blob tried again", digest=digest, error=str(error), delay_s=round(delay_s, 1))
        self._report(FetchStep(digest, FetchPhase.RETRYING, round(delay_s), size))
        await asyncio.sleep(delay_s)

    def _slot(self) -> AbstractAsyncContextManager[None]:
        return self._means.slots.one(self._source.host, self._source.endpoint.max_connections)

    def _invite(self) -> None:
        """Let others join, as many as may and as there are parts and connections for."""
        while (
            self._group is not None
            and self._helpers_wanted
            and len(self._helpers) < min(self._means.connections - 1, len(self._parts))
            and self._means.slots.are_free(self._source.host, self._source.endpoint.max_connections)
        ):
            part = self._parts.popleft()
            task = self._group.create_task(self._help(part), name=f"download {self._descriptor.digest.short}")
            self._helpers.add(task)
            task.add_done_callback(self._helpers.discard)

    async def _help(self, part: Range) -> None:
        try:
            while True:
                async with self._slot():
                    await self._attempt(part)
                if not self._parts:
                    return
                part = self._parts.popleft()
        except (TransportError, Refusal) as error:
            # Perhaps it wants fewer connections.
            self._helpers_wanted = False
            self._means.metrics.retry()
            log.info("further connection given up", digest=self._descriptor.digest, error=str(error))

    async def _attempt(self, wanted: Range) -> None:
        ranged = wanted != self._whole
        if not ranged and self._partial.size:
            await self._partial.clear()
        try:
            async with self._source.blob(self._descriptor.digest, wanted if ranged else None) as response:
                sent = await self._sent(response, wanted)
                self._partial.answers += 1
                if response.status == 206:
                    self._invite()
                with self._means.metrics.connection():
                    await self._copy(response, sent)
        except Refusal as refusal:
            if ranged and refusal.status == 416:
                raise _RangesUnusableError from refusal
            raise

    async def _sent(self, response: "aiohttp.ClientResponse", wanted: Range) -> Range:
        """Return what the answer holds."""
        size = self._descriptor.size
        if response.status == 206:
            if wanted == self._whole:
                raise RemoteError(f"blob {self._descriptor.digest}: the registry answers with a part, unasked")
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None:
                raise _RangesUnusableError
            if match[3] != "*":
                self._check_size(int(match[3]))
            sent = Range(int(match[1]), int(match[2]) + 1)
            if sent.start != wanted.start or not sent.start < sent.end <= wanted.end:
                raise _RangesUnusableError
            return sent
        if response.content_length is not None:
            self._check_size(response.content_length)
        if wanted != self._whole:
            # All of it, although a part was asked for.
            self._ranged = False
            if self._helpers:
                raise _RangesUnusableError
            self._parts.clear()
            await self._partial.clear()
        return Range(0, size)

    def _check_size(self, announced: int) -> None:
        if announced != self._descriptor.size:
            raise DataLossError(
                f"blob {self._descriptor.digest} has {announced} bytes at the registry, "
                f"its manifest says {self._descriptor.size}"
            )

    async def _copy(self, response: "aiohttp.ClientResponse", sent: Range) -> None:
        position = sent.start
        pending = bytearray()
        self._progress()
        body = self._source.body(response)
        write_s = time.monotonic() + _LONGEST_PENDING_S
        try:
            async with aclosing(body):
                async for chunk in body:
                    pending += chunk
                    if position + len(pending) > sent.end:
                        pending.clear()
                        raise self._too_long(sent)
                    if len(pending) >= PIECE_BYTES or (pending and (not chunk or time.monotonic() >= write_s)):
                        piece, pending = pending, bytearray()
                        await self._write(position, piece)
                        position += len(piece)
                        write_s = time.monotonic() + _LONGEST_PENDING_S
                        self._progress()
        finally:
            # What arrived before the connection broke need not be sent again.
            if pending:
                await self._write(position, pending)
                position += len(pending)
        if position < sent.end:
            raise TransportError("unexpected EOF")

    def _too_long(self, sent: Range) -> Exception:
        if sent == self._whole:
            return DataLossError(
                f"blob {self._descriptor.digest} is longer than the {self._descriptor.size} bytes it has"
            )
        return _RangesUnusableError()

    async def _write(self, offset: int, piece: bytearray) -> None:
        await self._partial.write(offset, piece)
        self._means.metrics.add_bytes("downloaded", len(piece))

    def _progress(self) -> None:
        descriptor = self._descriptor
        self._report(FetchStep(descriptor.digest, FetchPhase.DOWNLOADING, self._partial.size, descriptor.size))


def _gave_up(descriptor: Descriptor, partial: Partial, error: TransportError | Refusal) -> Exception:
    if isinstance(error, Refusal) and not error.retriable:
        return error
    return TransportError(
        f"blob {descriptor.digest}: download ended after {partial.size} of {descriptor.size} bytes: {error}"
    )
