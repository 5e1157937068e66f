"""The sessions that clients have attached, by their IDs.

Reference: moby/buildkit, ``session/manager.go``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from buildd.session.protocol import Session, SessionInfo
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from sampan.wire.http2.protocol import ByteStream

_MAX_ID_CHARACTERS: Final = 1024


class Served(Protocol):
    """A session, and what keeps it going."""

    @property
    def session(self) -> Session:
        """Usable while ``run`` goes on."""

    def run(self) -> Awaitable[None]:
        """Serve the connection to its end, and close it."""


Serve = Callable[[ByteStream, SessionInfo], Served]


class AttachedSessions:
    """Keeps ``buildd.session.protocol.Sessions``."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._sessions: dict[str, Session] = {}
        self._waiting: dict[str, set[asyncio.Future[Session]]] = {}

    async def attach(self, connection: ByteStream, info: SessionInfo) -> None:
        """Serve a session until its connection ends; the connection is closed then, also if this is cancelled."""
        try:
            if not 0 < len(info.id) <= _MAX_ID_CHARACTERS:
                raise InvalidArgumentError(f"a session's ID has 1 to {_MAX_ID_CHARACTERS} characters")
            if info.id in self._sessions:
                raise AlreadyExistsError(f"session {info.id} already exists")
        except BaseException:
            await connection.close()
            raise
        served = self._serve(connection, info)
        self._sessions[info.id] = served.session
        for waiter in self._waiting.pop(info.id, ()):
            if not waiter.done():
                waiter.set_result(served.session)
        try:
            await served.run()
        finally:
            del self._sessions[info.id]

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        """Return a session, as soon as it is attached. What precedes a ":" in ``id`` is not part of it."""
        before, _, after = id.partition(":")
        key = after or before
        found = self._sessions.get(key)
        if found is not None:
            return found
        waiter: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            raise NotFoundError(f"no active session for {key}: context deadline exceeded") from None
        finally:
            waiters = self._waiting.get(key)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[key]

    def attached(self) -> Sequence[SessionInfo]:
        """Return who is attached."""
        return [session.info for session in self._sessions.values()]
