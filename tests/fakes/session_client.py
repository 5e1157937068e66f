"""A client of a build, as its session shows it: a gRPC server on a socket, which stands for the connection."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import grpc

from buildd.session.attached import AttachedSessions
from buildd.session.protocol import SessionInfo
from buildd.wire.session.session import ClientSession, ServedSession
from sampan.api.buildkit.session.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    filesync_pb2,
    filesync_pb2_grpc,
    secrets_pb2,
    secrets_pb2_grpc,
    sshforward_pb2,
    sshforward_pb2_grpc,
    upload_pb2,
    upload_pb2_grpc,
)
from sampan.api.buildkit.session.v1 import fsutil_pb2 as fs
from sampan.api.buildkit.sourcepolicy.v1 import policy_pb2, session_pb2, session_pb2_grpc
from sampan.api.containerd.content.v1 import content_pb2, content_pb2_grpc
from sampan.fsutil.entry import mode_to_go
from sampan.wire.http2.protocol import ByteStream, SocketStream

Script = Callable[[AsyncIterator[fs.Packet]], AsyncIterator[fs.Packet]]

METHODS = frozenset(
    (
        "/moby.filesync.v1.FileSync/DiffCopy",
        "/moby.filesync.v1.FileSend/diffcopy",
        "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    )
)


@dataclass
class FakeSessionClient:
    """What the client has; what it was asked, and got."""

    directories: dict[str, Path] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)  # in place of a directory
    secrets: dict[str, bytes] = field(default_factory=dict)
    logins: dict[str, tuple[str, str]] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)  # each sends back what it gets
    uploads: dict[str, bytes] = field(default_factory=dict)
    verdicts: dict[str, session_pb2.CheckPolicyResponse] = field(default_factory=dict)  # by sources' identifiers
    judged: list[session_pb2.CheckPolicyRequest] = field(default_factory=list)
    selections: list[dict[str, list[str]]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # by exporter
    words: dict[str, dict[str, str]] = field(default_factory=dict)  # by exporter
    trees: dict[str, dict[bytes, tuple[fs.Stat, bytes]]] = field(default_factory=dict)  # by exporter
    stores: dict[str, dict[str, tuple[bytes, dict[str, str]]]] = field(default_factory=dict)  # by digest
    ingests: dict[str, bytearray] = field(default_factory=dict)  # by ref
    written: list[bytes] = field(default_factory=list)

    async def send_directory(self, root: Path, requests: AsyncIterator[fs.Packet]) -> AsyncIterator[fs.Packet]:
        """fsutil's sender, as simple as can be."""
        paths: list[Path] = []

        def walk(directory: Path) -> None:
            for path in sorted(directory.iterdir(), key=lambda each: os.fsencode(each.name)):
                paths.append(path)
                if path.is_dir() and not path.is_symlink():
                    walk(path)

        walk(root)
        for path in paths:
            yield fs.Packet(type=fs.Packet.PACKET_STAT, stat=_stat(path, root))
        yield fs.Packet(type=fs.Packet.PACKET_STAT)
        async for packet in requests:
            if packet.type == fs.Packet.PACKET_FIN:
                yield packet
                return
            self.requests.append(packet.ID)
            content = paths[packet.ID].read_bytes()
            for at in range(0, len(content), 32 << 10):
                yield fs.Packet(type=fs.Packet.PACKET_DATA, ID=packet.ID, data=content[at : at + (32 << 10)])
            yield fs.Packet(type=fs.Packet.PACKET_DATA, ID=packet.ID)


def _stat(path: Path, root: Path) -> fs.Stat:
    status = path.lstat()
    return fs.Stat(
        path=os.fsencode(path.relative_to(root)),
        mode=mode_to_go(status.st_mode),
        size=0 if path.is_dir() else status.st_size,
        modTime=status.st_mtime_ns,
        linkname=os.fsencode(os.readlink(path)) if path.is_symlink() else b"",
    )


def _metadata(context: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata():
        found.setdefault(key, []).append(value)
    return {
        key: [unquote_plus(value) for value in values] if found.get(f"{key}-encoded") == ["1"] else values
        for key, values in found.items()
        if not key.endswith("-encoded")
    }


class _Files(filesync_pb2_grpc.FileSyncServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def DiffCopy(self, requests: Any, context: Any) -> Any:
        selection = _metadata(context)
        self._client.selections.append(selection)
        name = selection["dir-name"][0]
        if name in self._client.scripts:
            packets = self._client.scripts[name](requests)
        elif name in self._client.directories:
            packets = self._client.send_directory(self._client.directories[name], requests)
        else:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'no access allowed to dir "{name}"')
        async for packet in packets:
            yield packet

    async def TarStream(self, requests: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "DiffCopy is the only protocol")
        yield


def _any(data: bytes) -> bytes:
    return data


class _Targets(grpc.GenericRpcHandler):
    """FileSend, whose messages are of two kinds."""

    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/moby.filesync.v1.FileSend/DiffCopy":
            return None
        return grpc.stream_stream_rpc_method_handler(self._take, _any, _any)

    async def _take(self, requests: Any, context: Any) -> Any:
        metadata = _metadata(context)
        exporter = metadata["buildkit-attachable-exporter-id"][0]
        self._client.words[exporter] = {
            key.removeprefix("exporter-md-"): ",".join(values)
            for key, values in metadata.items()
            if key.startswith("exporter-md-")
        }
        if exporter == "refused":
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "target already exists")
        if exporter != "tree":
            self._client.files[exporter] = b""
            async for message in requests:
                self._client.files[exporter] += filesync_pb2.BytesMessage.FromString(message).data
            return
        tree = self._client.trees.setdefault(exporter, {})
        stats: list[fs.Stat] = []
        open_files: dict[int, bytes] = {}
        told_all = False
        async for message in requests:
            packet = fs.Packet.FromString(message)
            if packet.type == fs.Packet.PACKET_STAT and packet.HasField("stat"):
                if packet.stat.mode < 1 << 12 and not packet.stat.linkname:
                    open_files[len(stats)] = b""
                    yield fs.Packet(type=fs.Packet.PACKET_REQ, ID=len(stats)).SerializeToString()
                stats.append(packet.stat)
                tree[packet.stat.path] = packet.stat, b""
            elif packet.type == fs.Packet.PACKET_STAT:
                told_all = True
            elif packet.type == fs.Packet.PACKET_DATA and packet.data:
                open_files[packet.ID] += packet.data
            elif packet.type == fs.Packet.PACKET_DATA:
                tree[stats[packet.ID].path] = stats[packet.ID], open_files.pop(packet.ID)
            elif packet.type == fs.Packet.PACKET_FIN:
                return
            if told_all and not open_files:
                yield fs.Packet(type=fs.Packet.PACKET_FIN).SerializeToString()


class _Auth(auth_pb2_grpc.AuthServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def Credentials(self, request: Any, context: Any) -> Any:
        username, secret = self._client.logins.get(request.Host, ("", ""))
        return auth_pb2.CredentialsResponse(Username=username, Secret=secret)

    async def FetchToken(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the secret may be told")

    async def GetTokenAuthority(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the secret may be told")

    async def VerifyTokenAuthority(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the secret may be told")


class _Secrets(secrets_pb2_grpc.SecretsServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def GetSecret(self, request: Any, context: Any) -> Any:
        if request.ID not in self._client.secrets:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        return secrets_pb2.GetSecretResponse(data=self._client.secrets[request.ID])


def denial(*messages: str) -> session_pb2.CheckPolicyResponse:
    """Return what denies a source."""
    said = [session_pb2.DenyMessage(message=each) for each in messages]
    return session_pb2.CheckPolicyResponse(
        decision=session_pb2.DecisionResponse(action=policy_pb2.DENY, denyMessages=said)
    )


class _Policy(session_pb2_grpc.PolicyVerifierServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def CheckPolicy(self, request: Any, context: Any) -> Any:
        self._client.judged.append(request)
        allow = session_pb2.CheckPolicyResponse(decision=session_pb2.DecisionResponse())
        return self._client.verdicts.get(request.Source.Source.identifier, allow)


class _Agents(sshforward_pb2_grpc.SSHServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def CheckAgent(self, request: Any, context: Any) -> Any:
        if request.ID not in self._client.agents:
            await context.abort(grpc.StatusCode.UNKNOWN, f"unset ssh forward key {request.ID}")
        return sshforward_pb2.CheckAgentResponse()

    async def ForwardAgent(self, requests: Any, context: Any) -> Any:
        if _metadata(context)["buildkit.ssh.id"][0] not in self._client.agents:
            await context.abort(grpc.StatusCode.UNKNOWN, "unset ssh forward key")
        async for message in requests:
            yield message


class _Uploads(upload_pb2_grpc.UploadServicer):
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def Pull(self, requests: Any, context: Any) -> Any:
        metadata = _metadata(context)
        url = f"http://{metadata['urlhost'][0]}{metadata['urlpath'][0]}"
        if url not in self._client.uploads:
            await context.abort(grpc.StatusCode.UNKNOWN, f"no http response from session for {url}")
        data = self._client.uploads.pop(url)
        for at in range(0, len(data), 1 << 20):
            yield upload_pb2.BytesMessage(data=data[at : at + (1 << 20)])


class _Content(content_pb2_grpc.ContentServicer):  # its other methods answer UNIMPLEMENTED
    def __init__(self, client: FakeSessionClient) -> None:
        self._client = client

    async def _store(self, context: Any) -> dict[str, tuple[bytes, dict[str, str]]]:
        name = _metadata(context)["buildkit-attachable-store-id"][0]
        if name not in self._client.stores:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown store {name}")
        return self._client.stores[name]

    async def Info(self, request: Any, context: Any) -> Any:
        store = await self._store(context)
        if request.digest not in store:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"content {request.digest}: not found")
        data, labels = store[request.digest]
        return content_pb2.InfoResponse(info=content_pb2.Info(digest=request.digest, size=len(data), labels=labels))

    async def Read(self, request: Any, context: Any) -> Any:
        store = await self._store(context)
        if request.digest not in store:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"content {request.digest}: not found")
        data = store[request.digest][0][request.offset :]
        data = data[: request.size] if request.size else data
        for at in range(0, len(data), 1 << 20):
            yield content_pb2.ReadContentResponse(offset=request.offset + at, data=data[at : at + (1 << 20)])

    async def Write(self, requests: Any, context: Any) -> Any:
        """As containerd's, which repeats its last answer."""
        store = await self._store(context)
        ref = expected = ""
        async for step in requests:
            ref, expected = ref or step.ref, step.expected or expected
            if expected in store:
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"blob {expected} exists")
            data = self._client.ingests.setdefault(ref, bytearray())
            if step.action != content_pb2.STAT:
                if not step.offset:
                    data.clear()
                elif step.offset != len(data):
                    await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"write @{step.offset}")
                data += step.data
                self._client.written.append(step.data)
            answer = content_pb2.WriteContentResponse(action=step.action, offset=len(data))
            if step.action == content_pb2.COMMIT:
                if f"sha256:{hashlib.sha256(data).hexdigest()}" != expected:
                    await context.abort(grpc.StatusCode.DATA_LOSS, "unexpected digest")
                store[expected] = bytes(data), dict(step.labels)
                yield answer
            yield answer


@asynccontextmanager
async def serving(client: FakeSessionClient, directory: Path) -> AsyncIterator[ByteStream]:
    """Serve ``client`` on a socket in ``directory``; what is yielded is a connection to it."""
    server = grpc.aio.server()
    filesync_pb2_grpc.add_FileSyncServicer_to_server(_Files(client), server)
    server.add_generic_rpc_handlers((_Targets(client),))
    auth_pb2_grpc.add_AuthServicer_to_server(_Auth(client), server)
    secrets_pb2_grpc.add_SecretsServicer_to_server(_Secrets(client), server)
    session_pb2_grpc.add_PolicyVerifierServicer_to_server(_Policy(client), server)
    sshforward_pb2_grpc.add_SSHServicer_to_server(_Agents(client), server)
    upload_pb2_grpc.add_UploadServicer_to_server(_Uploads(client), server)
    content_pb2_grpc.add_ContentServicer_to_server(_Content(client), server)  # type: ignore[abstract]
    socket = directory / "client.sock"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    stream = await SocketStream.connect(socket)
    try:
        yield stream
    finally:
        await stream.close()
        await server.stop(0)


@asynccontextmanager
async def attached(client: FakeSessionClient, directory: Path) -> AsyncIterator[ClientSession]:
    """Attach a session of ``client``; at its end nothing of it goes on."""
    sessions = AttachedSessions(ServedSession)
    async with serving(client, directory) as stream:
        attaching = asyncio.create_task(sessions.attach(stream, SessionInfo("s1", "name", "key", METHODS)))
        session = await sessions.get("s1")
        assert isinstance(session, ClientSession)
        try:
            yield session
        finally:
            attaching.cancel()
            with suppress(asyncio.CancelledError):
                await attaching
    assert not sessions.attached()
    assert {task.get_name() for task in asyncio.all_tasks() if "session" in task.get_name()} == set()
