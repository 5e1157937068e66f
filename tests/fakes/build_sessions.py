"""The client of a build in memory: its session, what it gives and what it was given, and who is attached."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from buildd.build.protocol import SourceQuery, SourceState
from buildd.session.protocol import (
    ClientContent,
    Credentials,
    LocalFiles,
    PolicyDecision,
    Progress,
    Session,
    SessionInfo,
    SocketOwner,
)
from sampan.build.policy import Action
from sampan.errors import (
    AlreadyExistsError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    RemoteError,
    UnavailableError,
)
from sampan.fsutil.receiver import SyncReport
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.content import Blob
from sampan.wire.http2.protocol import ByteStream

_MAX_SECRET_BYTES = 500 << 10


@dataclass
class FakeSession:
    """Satisfies ``session.protocol.Session``."""

    info: SessionInfo = field(default_factory=lambda: SessionInfo("s"))
    directories: dict[str, dict[str, str]] = field(default_factory=dict)  # files by name
    secrets: dict[str, bytes] = field(default_factory=dict)
    logins: dict[str, Credentials] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)
    uploads: dict[str, bytes] = field(default_factory=dict)
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)  # blobs by digest
    during: Callable[[Path], object] = lambda path: None  # while a directory is brought
    ended: bool = False
    synced: list[tuple[LocalFiles, Path]] = field(default_factory=list)
    sockets: list[tuple[str, Path, SocketOwner]] = field(default_factory=list)  # those that are open
    files: dict[str, tuple[bytes, Mapping[str, str]]] = field(default_factory=dict)  # what it was given, by exporter
    trees: dict[str, dict[str, bytes]] = field(default_factory=dict)  # likewise; directories are None's
    denied: dict[str, str] = field(default_factory=dict)  # why, by sources' identifiers

    def _use(self) -> None:
        if self.ended:
            raise UnavailableError(f"session {self.info.id} of the client has ended")

    def serves(self, method: str) -> bool:
        return method.casefold() in {each.casefold() for each in self.info.methods}

    async def sync(self, files: LocalFiles, into: Path, progress: Progress | None = None) -> SyncReport:
        self._use()
        self.synced.append((files, into))
        if files.name not in self.directories:
            raise NotFoundError(f"no directory {files.name}")
        wanted = self.directories[files.name]
        self.during(into)
        changed = [name for name in os.listdir(into) if name not in wanted]
        for name in changed:
            (into / name).unlink()
        sent = saved = 0
        for name, content in wanted.items():
            if not (into / name).exists() or (into / name).read_text() != content:
                (into / name).write_text(content)
                changed.append(name)
                sent += len(content)
            else:
                saved += len(content)
        if progress:
            progress(sent)
        return SyncReport(len(wanted), sent, saved, tuple(map(os.fsencode, changed)))

    async def credentials(self, host: str) -> Credentials | None:
        self._use()
        return self.logins.get(host)

    async def secret(self, id: str) -> bytes:
        self._use()
        if id not in self.secrets:
            raise NotFoundError(f"secret {id}: not found")
        if len(self.secrets[id]) > _MAX_SECRET_BYTES:
            raise InvalidArgumentError(f"invalid secret size {len(self.secrets[id])}")
        return self.secrets[id]

    async def check_agent(self, id: str = "") -> None:
        self._use()
        if (id or "default") not in self.agents:
            raise NotFoundError(f'no SSH key "{id}" forwarded from the client')

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

    async def send_file(
        self, chunks: AsyncIterable[bytes], metadata: Mapping[str, str] | None = None, exporter: str = "0"
    ) -> int:
        self._use()
        data = b"".join([chunk async for chunk in chunks])
        self.files[exporter] = data, metadata or {}
        return len(data)

    async def send_files(
        self,
        directory: Path,
        metadata: Mapping[str, str] | None = None,
        exporter: str = "0",
        progress: Progress | None = None,
    ) -> int:
        self._use()
        paths = {str(path.relative_to(directory)): path for path in sorted(directory.rglob("*"))}
        self.trees[exporter] = {name: b"" if path.is_dir() else path.read_bytes() for name, path in paths.items()}
        sent = sum(map(len, self.trees[exporter].values()))
        if progress is not None:
            progress(sent)
        return sent

    def content(self, store: str) -> ClientContent:
        return FakeClientContent(self, store)

    async def check_policy(self, state: SourceState, platform: Platform | None) -> PolicyDecision | SourceQuery:
        self._use()
        why = self.denied.get(state.op.identifier)
        return PolicyDecision(Action.ALLOW) if why is None else PolicyDecision(Action.DENY, (why,))

    async def pull_upload(self, url: str) -> AsyncGenerator[bytes, None]:
        self._use()
        if url not in self.uploads:
            raise RemoteError(f"no http response from session for {url}")
        yield self.uploads.pop(url)


@dataclass(slots=True)
class FakeClientContent:
    """Satisfies ``session.protocol.ClientContent``: one of a session's stores."""

    session: FakeSession
    store: str

    def _blobs(self) -> dict[str, bytes]:
        self.session._use()
        if self.store not in self.session.stores:
            raise NotFoundError(f"unknown store {self.store}")
        return self.session.stores[self.store]

    async def info(self, digest: str) -> Blob:
        blobs = self._blobs()
        if digest not in blobs:
            raise NotFoundError(f"content {digest}: not found")
        return Blob(Digest(digest), len(blobs[digest]), 0, 0)

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        await self.info(digest)
        yield self._blobs()[digest][offset : offset + size if size else None]

    async def write(
        self, digest: Digest, size: int, chunks: AsyncIterable[bytes], labels: Mapping[str, str] | None = None
    ) -> None:
        if digest in self._blobs():
            return
        data = b"".join([chunk async for chunk in chunks])
        if (Digest.of(data), len(data)) != (digest, size):
            raise DataLossError(f"{len(data)} bytes of {Digest.of(data)} are not the {size} bytes of {digest}")
        self._blobs()[digest] = data


class FakeSessions:
    """Satisfies ``session.protocol.Sessions``; what is attached is a ``FakeSession`` with nothing in it."""

    def __init__(self, *sessions: FakeSession, expecting: bool = False) -> None:
        """``expecting``: others will attach, so that it is waited for them."""
        self._sessions = {each.info.id: each for each in sessions}
        self._expecting = expecting
        self._changed = asyncio.Condition()

    async def attach(self, connection: ByteStream, info: SessionInfo) -> None:
        try:
            if not info.id:
                raise InvalidArgumentError("a session has an ID")
            if info.id in self._sessions:
                raise AlreadyExistsError(f"session {info.id} already exists")
            self._sessions[info.id] = FakeSession(info)
            try:
                async with self._changed:
                    self._changed.notify_all()
                while await connection.read():
                    pass
            finally:
                self._sessions.pop(info.id).ended = True
        finally:
            await connection.close()

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        key = id.rpartition(":")[2]
        try:
            patience_s = timeout_s if self._expecting else 0
            async with asyncio.timeout(patience_s if key not in self._sessions else None), self._changed:
                await self._changed.wait_for(lambda: key in self._sessions)
        except TimeoutError:
            raise NotFoundError(f"no active session for {key}") from None
        return self._sessions[key]

    def attached(self) -> Sequence[SessionInfo]:
        return [each.info for each in self._sessions.values()]
