"""Clients of builds that lend secrets and agents, and nothing else."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from buildd.session.protocol import Session, SocketOwner
from sampan.errors import NotFoundError


@dataclass(slots=True)
class FakeLender:
    """One client's session."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)
    sockets: list[tuple[str, Path, SocketOwner]] = field(default_factory=list)  # those that are open

    async def secret(self, id: str) -> bytes:
        if id not in self.secrets:
            raise NotFoundError(f"no secret {id}")
        return self.secrets[id]

    async def check_agent(self, id: str = "") -> None:
        if (id or "default") not in self.agents:
            raise NotFoundError(f"no agent {id}")

    @asynccontextmanager
    async def ssh_socket(self, id: str, path: Path, owner: SocketOwner) -> AsyncIterator[None]:
        opened = id, path, owner
        self.sockets.append(opened)
        try:
            with closing(socket.socket(socket.AF_UNIX)) as listening:
                listening.bind(os.fspath(path))
                yield
        finally:
            self.sockets.remove(opened)
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class FakeLenders:
    """Sessions by their IDs."""

    sessions: dict[str, FakeLender] = field(default_factory=dict)

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        if id not in self.sessions:
            raise NotFoundError(f"no session {id}")
        return cast("Session", self.sessions[id])
