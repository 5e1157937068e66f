"""A session of a client, over a connection on which the client serves gRPC.

Reference: moby/buildkit, ``session``.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote_plus, urlsplit

from google.protobuf.message import DecodeError, Message

from buildd.build.protocol import SourceQuery, SourceState
from buildd.llb.ops import SourceOp
from buildd.session.agent_socket import Conversation, listening
from buildd.session.protocol import (
    ClientContent,
    Credentials,
    LocalFiles,
    PolicyDecision,
    Progress,
    SessionInfo,
    SocketOwner,
)
from buildd.wire.llb.encode import platform_to_proto
from buildd.wire.services.values import query_from_proto, state_to_proto
from buildd.wire.session.content import SessionContent
from sampan.api.buildkit.session.v1 import auth_pb2, filesync_pb2, secrets_pb2, sshforward_pb2, upload_pb2
from sampan.api.buildkit.sourcepolicy.v1 import session_pb2
from sampan.build.policy import Action
from sampan.client.builds.packets import receive_tree, send_tree
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, UnimplementedError
from sampan.fsutil.receiver import SyncReport
from sampan.oci.platform import Platform
from sampan.wire.http2.call import Call, Metadata, start, unary
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.protocol import ByteStream

M = TypeVar("M", bound=Message)

_SYNC: Final = "/moby.filesync.v1.FileSync/DiffCopy"
_SEND: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_AUTH: Final = "/moby.filesync.v1.Auth"
_SECRETS: Final = "/moby.buildkit.secrets.v1.Secrets"
_SSH: Final = "/moby.sshforward.v1.SSH"
_UPLOAD: Final = "/moby.upload.v1.Upload/Pull"
_POLICY: Final = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"

_MAX_SECRET_BYTES: Final = 500 << 10
_DEFAULT_AGENT: Final = "default"
# The client's bound for messages is 4 MiB.
_PIECE_BYTES: Final = 1 << 20
# A client may have to ask a person, or a helper that asks one.
_ANSWER_S: Final = 120.0


class ClientSession:
    """One client's session, while its connection is served. Keeps ``buildd.session.protocol.Session``."""

    def __init__(self, connection: Connection, info: SessionInfo) -> None:
        self._connection = connection
        self._info = info
        self._methods = frozenset(method.lower() for method in info.methods)

    @property
    def info(self) -> SessionInfo:
        """What the client said when it attached."""
        return self._info

    def serves(self, method: str) -> bool:
        """Say whether the client serves a method; BuildKit compares without case."""
        return method.lower() in self._methods

    def _need(self, method: str) -> None:
        if not self.serves(method):
            raise UnimplementedError(f"method {method} not supported by the client")

    async def sync(self, files: LocalFiles, into: Path, progress: Progress | None = None) -> SyncReport:
        """Make the directory ``into``, which exists, the same as the client's."""
        if not self.serves(_SYNC):
            raise UnimplementedError("no local sources enabled")
        async with await start(self._connection, _SYNC, _selection(files)) as call:
            record = into.with_name(f"{into.name}.walk")
            return await receive_tree(call, into, compare=files.compare, record=record, progress=progress)

    async def credentials(self, host: str) -> Credentials | None:
        """Return what the client uses at ``host``; None: nothing."""
        request = auth_pb2.CredentialsRequest(Host=host)
        try:
            answer = await self._ask(f"{_AUTH}/Credentials", request, auth_pb2.CredentialsResponse)
        except UnimplementedError:
            return None
        return Credentials(answer.Username, answer.Secret) if answer.Secret else None

    async def secret(self, id: str) -> bytes:
        """Return a secret. NotFoundError; InvalidArgumentError: it has more than 500 KiB."""
        request = secrets_pb2.GetSecretRequest(ID=id)
        try:
            answer = await self._ask(f"{_SECRETS}/GetSecret", request, secrets_pb2.GetSecretResponse)
        except (NotFoundError, UnimplementedError) as error:
            raise NotFoundError(f"secret {id}: not found") from error
        if len(answer.data) > _MAX_SECRET_BYTES:
            raise InvalidArgumentError(f"invalid secret size {len(answer.data)}")
        return answer.data

    async def check_agent(self, id: str = "") -> None:
        """Return if the client forwards the SSH agent ``id``; empty is "default". NotFoundError."""
        agent = id or _DEFAULT_AGENT
        request = sshforward_pb2.CheckAgentRequest(ID=agent)
        try:
            await self._ask(f"{_SSH}/CheckAgent", request, sshforward_pb2.CheckAgentResponse)
        except UnimplementedError as error:
            raise NotFoundError(f'no SSH key "{agent}" forwarded from the client') from error
        except RemoteError as error:  # the client has no kind of its own for an ID that it has not
            raise NotFoundError(str(error)) from error

    def ssh_socket(self, id: str, path: Path, owner: SocketOwner) -> AbstractAsyncContextManager[None]:
        """Listen at ``path`` within; each connection there is one to the client's agent. ``path`` is removed after."""
        metadata = (("buildkit.ssh.id", id or _DEFAULT_AGENT),)

        @asynccontextmanager
        async def dial() -> AsyncIterator[Conversation]:
            async with await start(self._connection, f"{_SSH}/ForwardAgent", metadata) as call:
                yield _AgentCall(call)

        return listening(path, owner, dial)

    async def send_file(
        self, chunks: AsyncIterable[bytes], metadata: Mapping[str, str] | None = None, exporter: str = "0"
    ) -> int:
        """Give the client the file that it wants from the exporter of this ID; returns its size."""
        self._need(_SEND)
        size = 0
        async with await start(self._connection, _SEND, _exported(metadata, exporter)) as call:
            async for chunk in chunks:
                for at in range(0, len(chunk), _PIECE_BYTES):
                    piece = chunk[at : at + _PIECE_BYTES]
                    await call.send(filesync_pb2.BytesMessage(data=piece).SerializeToString())
                    size += len(piece)
            await call.end()
            while await call.receive():
                pass  # the client says nothing but how it ended
        return size

    async def send_files(
        self,
        directory: Path,
        metadata: Mapping[str, str] | None = None,
        exporter: str = "0",
        progress: Progress | None = None,
    ) -> int:
        """Give the client a directory, which nobody changes meanwhile; returns the bytes of content sent."""
        self._need(_SEND)
        async with await start(self._connection, _SEND, _exported(metadata, exporter)) as call:
            return await send_tree(call, directory, progress=progress)

    def content(self, store: str) -> ClientContent:
        """Return the content store of this ID; whether the client has it shows when it is used."""
        return SessionContent(self._connection, store, _ANSWER_S)

    async def check_policy(self, state: SourceState, platform: Platform | None) -> PolicyDecision | SourceQuery:
        """Return what the client says of a source, or what it wants to know before it decides."""
        request = session_pb2.CheckPolicyRequest(
            Platform=platform_to_proto(platform) if platform is not None else None, Source=state_to_proto(state)
        )
        answer = await self._ask(_POLICY, request, session_pb2.CheckPolicyResponse)
        match answer.WhichOneof("result"):
            case "request":
                return query_from_proto(answer.request)
            case "decision":
                return _decision(answer.decision)
        raise RemoteError("no decision in policy response")

    async def pull_upload(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield what the client uploads to ``url``; it does so once."""
        parts = urlsplit(url)
        metadata = (("urlpath", parts.path), ("urlhost", parts.netloc))
        async with await start(self._connection, _UPLOAD, metadata) as call:
            async for messages in call:
                for message in messages:
                    yield _parsed(upload_pb2.BytesMessage, message).data

    async def _ask(self, method: str, request: Message, answer: type[M]) -> M:
        data = await unary(self._connection, method, request.SerializeToString(), timeout_s=_ANSWER_S)
        return _parsed(answer, data)


def _decision(message: session_pb2.DecisionResponse) -> PolicyDecision:
    try:
        action = Action(message.action)
    except ValueError as error:
        raise RemoteError(f"unknown action {message.action} in policy response") from error
    update = None
    if message.HasField("update"):
        update = SourceOp(message.update.identifier, dict(message.update.attrs))
    return PolicyDecision(action, tuple(each.message for each in message.denyMessages), update)


class _AgentCall:
    """A connection to the client's agent."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def send(self, data: bytes) -> None:
        await self._call.send(sshforward_pb2.BytesMessage(data=data).SerializeToString())

    async def end(self) -> None:
        await self._call.end()

    async def receive(self) -> bytes:
        while messages := await self._call.receive():
            if data := b"".join(_parsed(sshforward_pb2.BytesMessage, message).data for message in messages):
                return data
        return b""


def _parsed(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise RemoteError("the client answers with a message that is none") from error


def _selection(files: LocalFiles) -> Metadata:
    """Return the metadata that say which files are asked for."""
    metadata: list[tuple[str, str]] = []
    named = (
        ("dir-name", (files.name,)),
        ("include-patterns", files.include),
        ("exclude-patterns", files.exclude),
        ("followpaths", files.follow),
    )
    for key, values in named:
        # Values of headers are printable ASCII. Those of a key are escaped all, or none.
        escaped = any(not (value.isascii() and value.isprintable()) or value != value.strip() for value in values)
        metadata += ((key, quote_plus(value, errors="surrogateescape") if escaped else value) for value in values)
        if escaped:
            metadata.append((f"{key}-encoded", "1"))
    return metadata


def _exported(metadata: Mapping[str, str] | None, exporter: str) -> Metadata:
    found = [(f"exporter-md-{key.lower()}", value) for key, value in (metadata or {}).items()]
    return [*found, ("buildkit-attachable-exporter-id", exporter)]


class ServedSession:
    """A session with its connection. Keeps ``buildd.session.attached.Served``."""

    def __init__(self, stream: ByteStream, info: SessionInfo) -> None:
        self._connection = Connection(stream, f"session {info.id} of the client has ended")
        self._session = ClientSession(self._connection, info)

    @property
    def session(self) -> ClientSession:
        """Usable while ``run`` goes on."""
        return self._session

    async def run(self) -> None:
        """Serve the connection to its end, and close it. RemoteError if the client does not speak HTTP/2."""
        await self._connection.run()
