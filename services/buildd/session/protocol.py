"""What the client of a build serves the builder: its directories, secrets, credentials, agents; and where results go.

A client attaches a *session* under an ID of its own and names it in the builds that may use it. On that connection the
client is the server. All methods raise ``UnavailableError`` when the session ends, ``UnimplementedError`` if the client
does not serve what is asked for, and ``RemoteError`` with the client's words if it fails. Cancelled, a method ends its
part of the conversation before it returns.

Reference: moby/buildkit, ``session``; tonistiigi/fsutil.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from buildd.build.protocol import SourceQuery, SourceState
from buildd.llb.ops import SourceOp
from sampan.build.policy import Action
from sampan.fsutil.receiver import SyncReport
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.content import Blob
from sampan.wire.http2.protocol import ByteStream

# Takes the bytes that have come so far, now and then; called in the event loop.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a client says of its session when it attaches it: the headers X-Docker-Expose-Session-*."""

    id: str
    name: str = ""
    shared_key: str = ""  # the same for all builds of one directory on one machine; part of what names a kept context
    methods: frozenset[str] = frozenset()  # "/moby.filesync.v1.FileSync/DiffCopy": what the client serves


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """A directory of the client's, and which of its files are wanted: patterns as in .dockerignore."""

    name: str  # "context", "dockerfile", or what the client calls it
    include: tuple[str, ...] = ()  # none: all
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()  # paths, wildcards allowed, that are sent with what links on them lead to; none: all
    compare: bool = True  # ask for files whose size, times or mode differ; else for every file


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client uses at a registry."""

    username: str  # empty: the secret is an identity token
    secret: str


@dataclass(frozen=True, slots=True)
class SocketOwner:
    """Who may use a socket."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o600


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What a client says of a source that a build wants to use."""

    action: Action
    messages: tuple[str, ...] = ()  # why it is denied
    update: SourceOp | None = None  # what is taken instead


class ClientContent(Protocol):
    """A content store of the client's: an OCI layout, or a directory for build cache."""

    async def info(self, digest: str) -> Blob:
        """Return what is known of a blob. NotFoundError."""

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from ``offset``, unverified; ``size`` 0: to the end. NotFoundError."""

    async def write(
        self, digest: Digest, size: int, chunks: AsyncIterable[bytes], labels: Mapping[str, str] | None = None
    ) -> None:
        """Have the client keep a blob; one that it has already is not sent.

        Raises:
            DataLossError: ``chunks`` are not what ``digest`` and ``size`` say.
        """


class Session(Protocol):
    """One client's session."""

    @property
    def info(self) -> SessionInfo:
        """What the client said when it attached."""

    def serves(self, method: str) -> bool:
        """Say whether the client serves a method, such as "/moby.sshforward.v1.SSH/CheckAgent"."""

    async def sync(self, files: LocalFiles, into: Path, progress: Progress | None = None) -> SyncReport:
        """Make the directory ``into``, which exists, the same as the client's; one at a time for one ``into``.

        Everything in it then has the daemon's owner, and the client's modes and times. If it fails or is cancelled,
        some files are as they were, some are new, some are missing, none is half written; a later one goes on there.

        Raises:
            NotFoundError: the client has no directory of that name.
            InvalidArgumentError: the client sends what no directory can hold.
        """

    async def credentials(self, host: str) -> Credentials | None:
        """Return what the client uses at ``host`` ("registry-1.docker.io" for Docker Hub); None: nothing."""

    async def secret(self, id: str) -> bytes:
        """Return a secret.

        Raises:
            NotFoundError: the client has none of this ID.
            InvalidArgumentError: it has more than 500 KiB.
        """

    async def check_agent(self, id: str = "") -> None:
        """Return if the client forwards the SSH agent ``id``; empty is "default". NotFoundError."""

    def ssh_socket(self, id: str, path: Path, owner: SocketOwner) -> AbstractAsyncContextManager[None]:
        """Listen at ``path`` within; each connection there is one to the client's agent. ``path`` is removed after."""

    async def send_file(
        self, chunks: AsyncIterable[bytes], metadata: Mapping[str, str] | None = None, exporter: str = "0"
    ) -> int:
        """Give the client the file that it wants from the exporter of this ID; returns its size.

        ``metadata`` are the exporter's words to the client, without "exporter-md-" before each.
        """

    async def send_files(
        self,
        directory: Path,
        metadata: Mapping[str, str] | None = None,
        exporter: str = "0",
        progress: Progress | None = None,
    ) -> int:
        """Give the client a directory, which nobody changes meanwhile; returns the bytes of content sent."""

    def content(self, store: str) -> ClientContent:
        """Return the content store of this ID; whether the client has it shows when it is used."""

    async def check_policy(self, state: SourceState, platform: Platform | None) -> PolicyDecision | SourceQuery:
        """Return what the client says of a source, or what it wants to know before it decides.

        Raises:
            UnimplementedError: it wants to know what this builder does not tell.
        """

    def pull_upload(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield what the client uploads to ``url``, "http://buildkit-session/<id>"; it does so once."""


class Sessions(Protocol):
    """The sessions that are attached."""

    async def attach(self, connection: ByteStream, info: SessionInfo) -> None:
        """Serve a session until its connection ends; the connection is closed then, also if this is cancelled.

        Raises:
            InvalidArgumentError: no ID.
            AlreadyExistsError: the ID is attached.
        """

    async def get(self, id: str, timeout_s: float = 5) -> Session:
        """Return a session, as soon as it is attached. What precedes a ":" in ``id`` is not part of it.

        Raises:
            NotFoundError: none by then.
        """

    def attached(self) -> Sequence[SessionInfo]:
        """Return who is attached."""
