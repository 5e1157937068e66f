"""What the builder is asked for by whoever stands before it: the Docker API, the command line.

All methods raise ``SampanError``. Closing an iterator ends what it stands for; cancelling a solve cancels the build.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sampan.build.progress import Update
from sampan.build.request import PruneOptions, SolveRequest, SolveResponse, UsageRecord


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What has changed in a build."""

    updates: Sequence[Update]
    encoded: bytes  # the same, as a ``StatusResponse``, for clients that decode it themselves


@dataclass(frozen=True, slots=True)
class Sink:
    """Where an export goes: one of both."""

    directory: Path | None = None  # made if it is not there; what is in it and not in the export stays
    write: Callable[[AsyncIterator[bytes]], Awaitable[None]] | None = None  # takes the bytes of a file


# Returns user name and secret for a registry, Docker's own by the name docker.io; None: there are none. What is not a
# password but a token has the user name ``<token>``.
FindCredentials: TypeAlias = Callable[[str], Awaitable[tuple[str, str] | None]]


@dataclass(frozen=True, slots=True)
class Served:
    """What a client serves the builder on its session."""

    credentials: FindCredentials | None = None
    uploads: Mapping[str, Callable[[], AsyncIterator[bytes]]] = field(default_factory=dict)  # by ID; each goes once
    directories: Mapping[str, Path] = field(default_factory=dict)  # by the names that a build has for them
    secrets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)  # by ID, read when it is asked for
    agents: Mapping[str, Path] = field(default_factory=dict)  # sockets of SSH agents, by ID
    outputs: Mapping[str, "Sink"] = field(default_factory=dict)  # by the number of the export
    shared_key: str = ""  # the same for all builds of one directory: only what has changed in it is sent


class Builder(Protocol):
    """The builder."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection that speaks HTTP/2, for a client that is one of the builder's itself."""

    def session(self, headers: Sequence[tuple[str, str]], sent: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Attach somebody's session: ``headers`` say whose it is, ``sent`` is what comes from there."""

    async def lend_session(self, headers: Sequence[tuple[str, str]], fd: int, begun: bytes) -> None:
        """Attach somebody's session, whose connection the builder reads and writes itself, until it is over.

        ``fd`` is the connection, a stream socket that the caller keeps and leaves alone meanwhile; ``begun`` is what
        was read from it already.
        """

    def serve(self, served: Served) -> AbstractAsyncContextManager[str]:
        """Attach a session of one's own within; yields its ID."""

    async def solve(self, request: SolveRequest) -> SolveResponse:
        """Build.

        Raises:
            SampanError: in the words that clients show; what a step's process ended with is part of them. A note shows
                the lines of the Dockerfile that are to blame.
        """

    def status(self, ref: str) -> AsyncGenerator[StatusUpdate, None]:
        """Yield how a build goes, from its beginning to its end; it may begin later."""

    async def usage(self, filters: Sequence[str] = ()) -> Sequence[UsageRecord]:
        """Return the build cache's records. InvalidArgumentError: a filter that cannot be."""

    def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """Remove records and yield each that is gone."""
