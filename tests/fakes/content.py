"""A content store in memory: as an object, and as the gRPC service that imaged offers."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.errors import AlreadyExistsError, NotFoundError, ServiceGoneError
from sampan.oci.digest import Digest


class FakeContent:
    """Satisfies ``layers.content.ContentStore``. ``before_piece`` can fail, or wait, in the middle of a read."""

    def __init__(self, piece_bytes: int = 1 << 20) -> None:
        self.blobs: dict[str, bytes] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.taken: dict[str, bytes] = {}
        self.read_soon: list[bool] = []  # what each writer has said
        self.goes_away = 0  # how often it takes something, and goes away with it
        self.gone: set[str] = set()
        self.reads = 0
        self.piece_bytes = piece_bytes

    def add(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return digest

    async def before_piece(self, offset: int) -> None:
        """Replace to meddle."""

    async def open(self, digest: Digest) -> int | None:  # it has no files
        return None

    async def read(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        self.reads += 1
        if digest not in self.blobs:
            raise NotFoundError(f"content {digest} does not exist")
        data = self.blobs[digest]
        for offset in range(0, len(data), self.piece_bytes):
            await self.before_piece(offset)
            yield data[offset : offset + self.piece_bytes]

    async def write(self, path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> None:
        data = path.read_bytes()
        assert Digest.of(data) == digest
        self.blobs[digest] = data
        self.labels[digest] = dict(labels)

    async def take(self, pipe: int, ref: str, *, read_soon: bool) -> None:
        self.read_soon.append(read_soon)
        if self.goes_away:
            self.goes_away -= 1
            self.gone.add(ref)
            return
        with open(pipe, "rb", closefd=False) as file:
            self.taken[ref] = await asyncio.to_thread(file.read)

    async def abort(self, ref: str) -> None:
        self.taken.pop(ref, None)

    def lost(self, ref: str) -> bool:
        return ref in self.gone

    async def returned(self) -> None:
        self.gone.clear()

    async def commit(self, ref: str, labels: Mapping[str, str], lease: str = "") -> tuple[Digest, int]:
        if ref in self.gone:
            raise ServiceGoneError("the content store went away")
        data = self.taken.pop(ref)
        digest = Digest.of(data)
        self.blobs[digest] = data
        self.labels[digest] = dict(labels)
        return digest, len(data)


class FakeContentServicer(pb_grpc.ContentServicer):  # its other methods answer UNIMPLEMENTED
    """containerd.services.content.v1.Content, as far as the snapshotter uses it."""

    def __init__(self, content: FakeContent) -> None:
        self._content = content

    async def Read(
        self, request: pb.ReadContentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ReadContentResponse]:
        offset = 0
        async for data in self._content.read(Digest.parse(request.digest)):
            yield pb.ReadContentResponse(offset=offset, data=data)
            offset += len(data)

    async def Write(
        self, request_iterator: AsyncIterator[pb.WriteContentRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WriteContentResponse]:
        data = b""
        async for request in request_iterator:
            assert request.offset == len(data)
            data += request.data
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            if request.action == pb.WriteAction.COMMIT:
                assert digest == request.expected
                if digest in self._content.blobs:
                    raise AlreadyExistsError(f"content {digest} exists already")
                self._content.blobs[digest] = data
                self._content.labels[digest] = dict(request.labels)
            yield pb.WriteContentResponse(action=request.action, offset=len(data), digest=digest)
