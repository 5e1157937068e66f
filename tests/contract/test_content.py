"""imaged's content store keeps the contract, called directly and over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.content.writes import write_session
from imaged.wire.content_servicer import ContentServicer
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.client.storage.content import ContentClient, Conversation
from sampan.errors import SampanError
from sampan.filter_expressions import parse_filters
from sampan.oci.digest import Digest
from sampan.resource.content import Action, Blob, WriteReply, WriteStep
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.store.database import Store
from sampan.wire.channel import open_channel
from tests.contract.content import Content, ContentContract, Info, Reply, Step, Writer


class LocalWriter:
    """Feeds ``write_session``."""

    def __init__(self, ingests: Ingests, *, resumable: bool) -> None:
        self._steps: asyncio.Queue[WriteStep | None] = asyncio.Queue()
        self._session = write_session(ingests, self._next(), resumable=resumable)

    async def _next(self) -> AsyncIterator[WriteStep]:
        while (step := await self._steps.get()) is not None:
            yield step

    async def send(self, step: Step) -> Reply:
        self._steps.put_nowait(_step(step))
        reply: WriteReply = await anext(self._session)
        return Reply(reply.offset, reply.total, reply.digest)

    async def close(self) -> None:
        self._steps.put_nowait(None)
        async for _ in self._session:
            pass

    async def vanish(self) -> None:
        await self._session.aclose()


class LocalContent:
    """The core, called directly."""

    def __init__(self, content: ContentStore, ingests: Ingests) -> None:
        self._content = content
        self._ingests = ingests

    async def info(self, digest: str) -> Info:
        blob = await self._content.info(Digest.parse(digest))
        return Info(blob.digest, blob.size, blob.labels)

    async def update(self, digest: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Info:
        blob = await self._content.update(Digest.parse(digest), labels, paths)
        return Info(blob.digest, blob.size, blob.labels)

    async def find(self, *filters: str) -> list[Info]:
        blobs = await self._content.list(parse_filters(filters))
        return [Info(blob.digest, blob.size, blob.labels) for blob in blobs]

    async def delete(self, digest: str) -> None:
        await self._content.delete(Digest.parse(digest))

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> bytes:
        return b"".join([piece async for piece in self._content.read(Digest.parse(digest), offset, size)])

    async def status(self, ref: str) -> Reply:
        status = self._ingests.status(ref)
        return Reply(status.offset, status.total, status.expected or "")

    async def refs(self, *filters: str) -> list[str]:
        return [status.ref for status in self._ingests.statuses(parse_filters(filters))]

    async def abort(self, ref: str) -> None:
        await self._ingests.abort(ref)

    def writer(self, *, resumable: bool = True) -> Writer:
        return LocalWriter(self._ingests, resumable=resumable)


class RemoteWriter:
    """One conversation."""

    def __init__(self, client: ContentClient, *, resumable: bool) -> None:
        self._stack = AsyncExitStack()
        self._client = client
        self._resumable = resumable
        self._conversation: Conversation | None = None

    async def send(self, step: Step) -> Reply:
        if self._conversation is None:
            self._conversation = await self._stack.enter_async_context(self._client.write(resumable=self._resumable))
        reply = await self._conversation.ask(_step(step))
        return Reply(reply.offset, reply.total, reply.digest)

    async def close(self) -> None:
        try:
            if self._conversation is not None:
                with suppress(SampanError):
                    await self._conversation.hang_up()
        finally:
            await self._stack.aclose()

    async def vanish(self) -> None:
        await self._stack.aclose()


class RemoteContent:
    """The service, through its socket and the client."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._client = ContentClient(channel)

    async def info(self, digest: str) -> Info:
        return _info(await self._client.info(digest))

    async def update(self, digest: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Info:
        return _info(await self._client.update(digest, labels, paths))

    async def find(self, *filters: str) -> list[Info]:
        return [_info(blob) async for page in self._client.list(filters) for blob in page]

    async def delete(self, digest: str) -> None:
        await self._client.delete(digest)

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> bytes:
        return b"".join([piece async for piece in self._client.read(digest, offset, size)])

    async def status(self, ref: str) -> Reply:
        status = await self._client.status(ref)
        return Reply(status.offset, status.total, status.expected or "")

    async def refs(self, *filters: str) -> list[str]:
        return [status.ref for status in await self._client.statuses(filters)]

    async def abort(self, ref: str) -> None:
        await self._client.abort(ref)

    def writer(self, *, resumable: bool = True) -> Writer:
        return RemoteWriter(self._client, resumable=resumable)


def _info(blob: Blob) -> Info:
    return Info(blob.digest, blob.size, blob.labels)


def _step(step: Step) -> WriteStep:
    return WriteStep(
        Action[step.action],
        step.ref,
        step.total,
        Digest.parse(step.expected) if step.expected else None,
        step.offset,
        step.data,
        step.labels or {},
    )


class TestLocal(ContentContract):
    @pytest.fixture
    async def content(self, tmp_path: Path) -> AsyncIterator[Content]:
        async with Store(tmp_path / "metadata.db", "imaged.schema", durable=False) as store:
            yield LocalContent(*await _stores(tmp_path, store))


class TestOverGrpc(ContentContract):
    @pytest.fixture
    async def content(self, tmp_path: Path) -> AsyncIterator[Content]:
        async with Store(tmp_path / "metadata.db", "imaged.schema", durable=False) as store:
            server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
            servicer = ContentServicer(*await _stores(tmp_path, store))
            pb_grpc.add_ContentServicer_to_server(servicer, server)
            server.add_insecure_port(f"unix:{tmp_path}/socket")
            await server.start()
            try:
                async with open_channel(tmp_path / "socket") as channel:
                    yield RemoteContent(channel)
            finally:
                await server.stop(1)


async def _stores(root: Path, store: Store) -> tuple[ContentStore, Ingests]:
    content = ContentStore(root, store)
    ingests = Ingests(root, content)
    await ingests.recover()
    await content.recover()
    return content, ingests
