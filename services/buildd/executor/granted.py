"""What the clients that wait for a step lend it: secrets, and the sockets of their SSH agents.

Any of the clients may have it; the one that asked first is asked first. Nothing of it gets into a layer, a cache key or
a log.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from buildd.llb.ops import SecretEnv, SecretMount, SshMount
from buildd.protocol import StepContext
from buildd.session.protocol import Session, SocketOwner
from sampan.build.step import FileSource, SocketSource
from sampan.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnimplementedError
from sampan.sys.trees import remove_tree

_DEFAULT_AGENT: Final = "default"

# One client has it not, or has gone; another one may have it.
_NOT_THERE: Final = (NotFoundError, UnimplementedError, UnavailableError)


class AttachedSessions(Protocol):
    """The part of ``session.protocol.Sessions`` that is needed."""

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        """Return a session. NotFoundError."""


class Granted:
    """Finds what clients lend."""

    def __init__(self, sessions: AttachedSessions, sockets: Path) -> None:
        """``sockets`` is a directory for agents' sockets, below the run root and with a short path."""
        self._sessions = sessions
        self._sockets = sockets

    def recover(self) -> None:
        """Remove sockets that a killed builder has left; blocks for a moment."""
        remove_tree(self._sockets)

    async def variable(self, wanted: SecretEnv, context: StepContext) -> str | None:
        """Return ``NAME=value``; None if it may be missing and is.

        Raises:
            NotFoundError: no client has the secret.
            InvalidArgumentError: it cannot be a variable's value.
        """
        data = await self._secret(wanted.id, context)
        if data is None:
            _check_missing(wanted.id, optional=wanted.optional)
            return None
        if b"\0" in data:
            raise InvalidArgumentError(f"secret {wanted.id} holds a zero byte, which no environment variable can have")
        return f"{wanted.name}={data.decode(errors='surrogateescape')}"

    async def file(self, wanted: SecretMount, context: StepContext) -> FileSource | None:
        """Return a secret as a file; None if it may be missing and is. Raises NotFoundError."""
        data = await self._secret(wanted.id, context)
        if data is None:
            _check_missing(wanted.id, optional=wanted.optional)
            return None
        return FileSource(data, wanted.mode, wanted.uid, wanted.gid)

    async def _secret(self, id: str, context: StepContext) -> bytes | None:
        for each in context.sessions():
            try:
                return await (await self._sessions.get(each)).secret(id)
            except _NOT_THERE:
                continue
        return None

    @asynccontextmanager
    async def agent(self, wanted: SshMount, context: StepContext) -> AsyncIterator[SocketSource | None]:
        """Yield a socket that leads to a client's agent; None if it may be missing and is. Raises NotFoundError."""
        name = wanted.id or _DEFAULT_AGENT
        try:
            session = await self._with_agent(name, context.sessions())
        except NotFoundError:
            if not wanted.optional:
                raise
            yield None
            return
        self._sockets.mkdir(parents=True, exist_ok=True)
        path = self._sockets / secrets.token_hex(8)
        async with session.ssh_socket(name, path, SocketOwner(wanted.uid, wanted.gid, wanted.mode)):
            yield SocketSource(str(path))

    async def _with_agent(self, name: str, sessions: Sequence[str]) -> Session:
        """Return a client that has the agent. Raises NotFoundError, in the words of the last one that has not."""
        failure = NotFoundError(f'no SSH key "{name}" forwarded from the client')
        for each in sessions:
            try:
                session = await self._sessions.get(each)
            except _NOT_THERE:
                continue
            try:
                await session.check_agent(name)
            except NotFoundError as error:
                failure = error
            except _NOT_THERE:
                continue
            else:
                return session
        raise failure


def _check_missing(id: str, *, optional: bool) -> None:
    if not optional:
        raise NotFoundError(f"secret {id}: not found")
