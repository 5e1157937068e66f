"""Builders that do what a test says: what stands before the service, and the service."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildd.build.protocol import Gateway, Worker
from buildd.history.model import CANCELLED, BuildRecord, Happened, HistoryQuery
from sampan.build.progress import Update
from sampan.build.protocols import Served, StatusUpdate
from sampan.build.request import PruneOptions, SolveRequest, SolveResponse, UsageRecord
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from sampan.filter_expressions import parse_filters
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform


@dataclass
class FakeBuilder:
    """Satisfies ``build.protocols.Builder``; shows ``updates``, then ends with ``answer`` when ``go_on`` is set."""

    updates: list[list[Update]] = field(default_factory=list)
    answer: SolveResponse | Exception = field(default_factory=lambda: SolveResponse({}))
    records: list[UsageRecord] | UnavailableError = field(default_factory=list)
    socket: Path | None = None
    solved: list[SolveRequest] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    uploaded: list[bytes] = field(default_factory=list)
    attached: list[dict[str, str]] = field(default_factory=list)
    pruned: list[PruneOptions] = field(default_factory=list)
    cancelled: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    building: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cleared: asyncio.Event = field(default_factory=asyncio.Event)  # nothing is left of a build that has ended
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a session that was lent is over

    def __post_init__(self) -> None:
        self.go_on.set()
        self.cleared.set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the test's own socket."""
        if self.socket is None:
            raise UnavailableError("service buildd does not answer")
        return await asyncio.open_unix_connection(self.socket)

    async def session(
        self, headers: Sequence[tuple[str, str]], sent: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Give back, in capitals, what comes."""
        self.attached.append(dict(headers))
        async for data in sent:
            yield data.upper()

    async def lend_session(self, headers: Sequence[tuple[str, str]], fd: int, begun: bytes) -> None:
        """Give back, in capitals, what comes."""
        self.attached.append({**dict(headers), "lent": "yes"})
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(fd)))
        try:
            writer.write(begun.upper())
            while data := await reader.read(65536):
                writer.write(data.upper())
        finally:
            writer.close()
            self.left.set()

    @asynccontextmanager
    async def serve(self, served: Served) -> AsyncIterator[str]:
        """Note what is served."""
        self.served.append(served)
        yield f"session{len(self.served)}"

    async def solve(self, request: SolveRequest) -> SolveResponse:
        """Read what is uploaded, and end as the test says."""
        self.solved.append(request)
        self.building.set()
        try:
            for served in self.served:
                for begin in served.uploads.values():
                    self.uploaded.append(b"".join([chunk async for chunk in begin()]))
            if self.updates:
                await self.shown.wait()
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def status(self, ref: str) -> AsyncGenerator[StatusUpdate, None]:
        """Yield the test's updates."""
        await self.building.wait()
        for some in self.updates:
            yield StatusUpdate(some, f"{ref}:{len(some)}".encode())
        self.shown.set()
        await self.ended.wait()
        await self.cleared.wait()

    async def usage(self, filters: Sequence[str] = ()) -> Sequence[UsageRecord]:
        """Return all records."""
        parse_filters(filters)
        return tuple(self._cache())

    async def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """Yield all records, which are gone then."""
        parse_filters(options.filters)
        self.pruned.append(options)
        while self._cache():
            yield self._cache().pop(0)

    def _cache(self) -> list[UsageRecord]:
        if isinstance(self.records, UnavailableError):
            raise self.records
        return self.records


class FakeBuilds:
    """Satisfies ``buildd.build.protocol.Builder``: what ``builder`` says of its builds and of its cache, remembered."""

    def __init__(self, builder: FakeBuilder | None = None) -> None:
        self.builder = FakeBuilder() if builder is None else builder
        self.gateways: dict[str, Gateway] = {}  # of those that are driven by their clients
        self._running: set[str] = set()
        self._records: dict[str, BuildRecord] = {}  # of those that have ended
        self._times = iter(range(1, 1000))

    async def solve(self, request: SolveRequest) -> SolveResponse:
        if request.ref in self._running:
            raise AlreadyExistsError(f"job ID {request.ref} exists")
        for name in request.entitlements:
            if name != "security.insecure":
                raise InvalidArgumentError(f"unknown entitlement {name}")
            raise PermissionDeniedError(f"granting entitlement {name} is not allowed by build daemon configuration")
        self._running.add(request.ref)
        record, error, response = BuildRecord.begun(request, next(self._times)), "", SolveResponse({})
        if not self.builder.go_on.is_set():
            self.builder.ended.clear()
        try:
            self.builder.shown.set()  # whoever asks is told all of it, then or later
            response = await self.builder.solve(request)
        except asyncio.CancelledError:
            error = CANCELLED
            raise
        except Exception as failed:
            error = str(failed)
            raise
        finally:
            self._running.discard(request.ref)
            self._records[request.ref] = replace(
                record, completed_ns=next(self._times), error=error, response=response.exporter_response
            )
        return response

    async def status(self, ref: str) -> AsyncGenerator[Sequence[Update], None]:
        await asyncio.sleep(0)  # it may begin a little later
        if ref not in self._running and ref not in self._records:
            raise NotFoundError(f"no such job {ref}")
        for some in self.builder.updates:
            yield some
        if ref in self._running:
            await self.builder.ended.wait()

    async def gateway(self, ref: str) -> Gateway:
        if ref not in self.gateways:
            raise NotFoundError(f"no such job {ref}")
        return self.gateways[ref]

    async def history(self, query: HistoryQuery) -> AsyncGenerator[tuple[Happened, BuildRecord], None]:
        for record in list(self._records.values()):
            if query.ref in ("", record.ref) and not query.active_only:
                yield Happened.COMPLETE, record
        if not query.early_exit:
            await asyncio.Event().wait()

    async def blob(self, digest: Digest) -> bytes:
        raise NotFoundError(f"content {digest}: not found")

    async def pin(self, ref: str, *, pinned: bool) -> None:
        self._records[ref] = replace(self._record(ref), pinned=pinned)

    async def forget(self, ref: str) -> None:
        if ref in self._running:
            raise ConflictError(f"build {ref} runs")
        del self._records[self._record(ref).ref]

    def _record(self, ref: str) -> BuildRecord:
        if ref not in self._records:
            raise NotFoundError(f"no such build {ref}")
        return self._records[ref]

    def workers(self) -> Sequence[Worker]:
        return [Worker("fake", {}, (Platform("linux", "amd64"),), "1")]

    async def usage(self, filters: Sequence[str], unused_ns: int = 0) -> Sequence[UsageRecord]:
        return [each for each in await self.builder.usage(filters) if not unused_ns or not each.last_used_ns]

    def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        return self.builder.prune(options)
