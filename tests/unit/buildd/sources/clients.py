"""Clients, steps and file workers as sources see them."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildd.protocol import Directory, Output, Tree
from buildd.session.protocol import Credentials, LocalFiles, SessionInfo, SocketOwner
from sampan.errors import NotFoundError, UnimplementedError
from sampan.fsutil.receiver import SyncReport
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.content import Blob
from sampan.resource.image import Layer


class FakeContext:
    """A step, for as long as it is entered."""

    def __init__(self, *sessions: str) -> None:
        self._sessions = sessions
        self.logged: list[bytes] = []
        self.statuses: dict[str, tuple[int, int, bool]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "FakeContext":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def vertex(self) -> Digest:
        return Digest.of(b"vertex")

    def sessions(self) -> Sequence[str]:
        return self._sessions

    def log(self, data: bytes, stream: int = 1) -> None:
        self.logged.append(data)

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        self.statuses[id] = current, total, done

    async def hold(self, held: AbstractAsyncContextManager[Output]) -> Output:
        return await self._stack.enter_async_context(held)


@dataclass
class FakeSession:
    """A client with directories, secrets and credentials."""

    info: SessionInfo
    directories: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    logins: dict[str, Credentials] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    synced: list[tuple[LocalFiles, Path]] = field(default_factory=list)
    during: Callable[[Path], object] = lambda path: None

    def serves(self, method: str) -> bool:
        return True

    async def sync(self, files: LocalFiles, into: Path, progress: Callable[[int], None] | None = None) -> SyncReport:
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
        return SyncReport(len(wanted), sent, saved, tuple(changed))

    async def credentials(self, host: str) -> Credentials | None:
        return self.logins.get(host)

    async def secret(self, id: str) -> bytes:
        if id not in self.secrets:
            raise NotFoundError(f"secret {id} not found")
        return self.secrets[id]

    @asynccontextmanager
    async def ssh_socket(self, id: str, path: Path, owner: SocketOwner) -> AsyncIterator[None]:
        path.touch()
        yield
        path.unlink()

    def content(self, store: str) -> "FakeStore":
        return FakeStore(self.blobs if store in ("oci:store", "") else {})

    def __getattr__(self, name: str) -> object:
        raise UnimplementedError(name)


class FakeStore:
    """A content store of a client's."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs = blobs

    async def info(self, digest: str) -> Blob:
        if digest not in self._blobs:
            raise NotFoundError(f"content {digest}: not found")
        return Blob(Digest(digest), len(self._blobs[digest]), 0, 0)

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        await self.info(digest)
        yield self._blobs[digest][offset : offset + size if size else None]


class FakeSessions:
    def __init__(self, *sessions: FakeSession) -> None:
        self._sessions = {each.info.id: each for each in sessions}

    async def get(self, id: str, timeout_s: float = 5) -> FakeSession:
        key = id.rpartition(":")[2]
        if key not in self._sessions:
            raise NotFoundError(f"no active session for {key}")
        return self._sessions[key]

    def attached(self) -> Sequence[SessionInfo]:
        return [each.info for each in self._sessions.values()]


class FakeFiles:
    """Makes one layer of a directory, and remembers what was in it: content, mode and time in seconds."""

    def __init__(self) -> None:
        self.flat: dict[Digest, dict[str, tuple[bytes, int, int]]] = {}

    async def flatten(self, output: Output) -> Tree:
        assert isinstance(output, Directory)
        found = {}
        for path in sorted(output.path.rglob("*")):
            status = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
            found[str(path.relative_to(output.path))] = content, status.st_mode & 0o7777, int(status.st_mtime)
        digest = Digest.of(repr(found).encode())
        self.flat[digest] = found
        return Tree((Layer(Descriptor(OCI_LAYER, digest, 1), digest),))

    def of(self, output: Output) -> dict[str, tuple[bytes, int, int]]:
        assert isinstance(output, Tree)
        return self.flat[output.layers[0].diff_id]

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)
