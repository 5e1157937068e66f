"""A builder that does what a test says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sampan.build.progress import Update
from sampan.build.protocols import Served, StatusUpdate
from sampan.build.request import PruneOptions, SolveRequest, SolveResponse, UsageRecord
from sampan.errors import UnavailableError


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
    _shown: asyncio.Event = field(default_factory=asyncio.Event)

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
                await self._shown.wait()
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
        self._shown.set()
        await self.ended.wait()
        await self.cleared.wait()

    async def usage(self, filters: Sequence[str] = (), unused_ns: int = 0) -> Sequence[UsageRecord]:
        """Return all records."""
        assert not filters
        assert unused_ns == 0
        return self._cache()

    async def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """Yield all records."""
        self.pruned.append(options)
        for record in self._cache():
            yield record

    def _cache(self) -> Sequence[UsageRecord]:
        if isinstance(self.records, UnavailableError):
            raise self.records
        return self.records
