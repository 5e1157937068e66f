"""imaged's content store keeps the contract, called directly and over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from prometheus_client import CollectorRegistry

from imaged.content.blobs import ContentStore
from imaged.content.filters import parse_filters
from imaged.content.ingest import Ingests
from imaged.content.writes import Action, WriteReply, WriteStep, write_session
from imaged.wire.content_servicer import ContentServicer
from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.oci.digest import Digest
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.store.database import Store
from sampan.wire.channel import open_channel, rpc_errors
from tests.contract.content import Content, ContentContract, Info, Reply, Step, Writer


class LocalWriter:
    """Feeds ``write_session``."""

    def __init__(self, ingests: Ingests) -> None:
        self._steps: asyncio.Queue[WriteStep | None] = asyncio.Queue()
        self._session = write_session(ingests, self._next())

    async def _next(self) -> AsyncIterator[WriteStep]:
        while (step := await self._steps.get()) is not None:
            yield step

    async def send(self, step: Step) -> Reply:
        self._steps.put_nowait(
            WriteStep(
                Action[step.action],
                step.ref,
                step.total,
                Digest.parse(step.expected) if step.expected else None,
                step.offset,
                step.data,
                step.labels or {},
            )
        )
        reply: WriteReply = await anext(self._session)
        return Reply(reply.offset, reply.total, reply.digest)

    async def close(self) -> None:
        self._steps.put_nowait(None)
        async for _ in self._session:
            pass


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
        self._ingests.abort(ref)

    def writer(self) -> Writer:
        return LocalWriter(self._ingests)


class RemoteWriter:
    """One Write stream."""

    def __init__(self, stub: "pb_grpc.ContentAsyncStub") -> None:
        self._call = stub.Write()

    async def send(self, step: Step) -> Reply:
        request = pb.WriteContentRequest(
            action=pb.WriteAction.Value(step.action),
            ref=step.ref,
            total=step.total,
            expected=step.expected,
            offset=step.offset,
            data=step.data,
            labels=step.labels or {},
        )
        with rpc_errors():
            await self._call.write(request)
            reply = await self._call.read()
            if not isinstance(reply, pb.WriteContentResponse):
                raise AssertionError(f"the stream ended: {await self._call.details()}")
        return Reply(reply.offset, reply.total, reply.digest)

    async def close(self) -> None:
        await self._call.done_writing()
        await self._call.code()


class RemoteContent:
    """The service, through its socket."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: pb_grpc.ContentAsyncStub = pb_grpc.ContentStub(channel)

    async def info(self, digest: str) -> Info:
        with rpc_errors():
            return _info((await self._stub.Info(pb.InfoRequest(digest=digest))).info)

    async def update(self, digest: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Info:
        request = pb.UpdateRequest(info=pb.Info(digest=digest, labels=labels), update_mask=FieldMask(paths=paths))
        with rpc_errors():
            return _info((await self._stub.Update(request)).info)

    async def find(self, *filters: str) -> list[Info]:
        with rpc_errors():
            pages = [page async for page in self._stub.List(pb.ListContentRequest(filters=filters))]
        return [_info(info) for page in pages for info in page.info]

    async def delete(self, digest: str) -> None:
        with rpc_errors():
            await self._stub.Delete(pb.DeleteContentRequest(digest=digest))

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> bytes:
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        with rpc_errors():
            return b"".join([piece.data async for piece in self._stub.Read(request)])

    async def status(self, ref: str) -> Reply:
        with rpc_errors():
            status = (await self._stub.Status(pb.StatusRequest(ref=ref))).status
        return Reply(status.offset, status.total, status.expected)

    async def refs(self, *filters: str) -> list[str]:
        with rpc_errors():
            answer = await self._stub.ListStatuses(pb.ListStatusesRequest(filters=filters))
        return [status.ref for status in answer.statuses]

    async def abort(self, ref: str) -> None:
        with rpc_errors():
            await self._stub.Abort(pb.AbortRequest(ref=ref))

    def writer(self) -> Writer:
        return RemoteWriter(self._stub)


def _info(message: pb.Info) -> Info:
    return Info(message.digest, message.size, dict(message.labels))


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
