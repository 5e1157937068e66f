"""The content store over gRPC."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import grpc

from sampan.api.containerd.content.v1 import content_pb2 as content_pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as content_grpc
from sampan.errors import AlreadyExistsError
from sampan.oci.digest import Digest
from sampan.wire.channel import rpc_errors

_PIECE_BYTES: Final = 1 << 20


class ContentClient:
    """Satisfies ``content.ContentStore``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: content_grpc.ContentAsyncStub = content_grpc.ContentStub(channel)

    async def read(self, digest: Digest) -> AsyncIterator[bytes]:
        """See ``content.ContentStore``."""
        with rpc_errors():
            call = self._stub.Read(content_pb.ReadContentRequest(digest=digest))
            try:
                async for piece in call:
                    yield piece.data
            finally:
                call.cancel()

    async def write(self, path: Path, digest: Digest, ref: str, labels: Mapping[str, str]) -> None:
        """See ``content.ContentStore``."""
        try:
            with rpc_errors():
                # Each piece is answered, which keeps the store from being flooded; only an error matters.
                async for _ in self._stub.Write(_requests(path, digest, ref, labels)):
                    pass
        except AlreadyExistsError:
            return


async def _requests(
    path: Path, digest: Digest, ref: str, labels: Mapping[str, str]
) -> AsyncIterator[content_pb.WriteContentRequest]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        total = os.fstat(fd).st_size
        offset = 0
        while offset < total:
            data = os.pread(fd, _PIECE_BYTES, offset)
            yield content_pb.WriteContentRequest(
                action=content_pb.WriteAction.WRITE, ref=ref, total=total, expected=digest, offset=offset, data=data
            )
            offset += len(data)
        yield content_pb.WriteContentRequest(
            action=content_pb.WriteAction.COMMIT, ref=ref, total=total, expected=digest, offset=offset, labels=labels
        )
    finally:
        os.close(fd)
