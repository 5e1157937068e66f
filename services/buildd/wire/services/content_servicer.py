"""``containerd.services.content.v1.Content``: what records of the history name by digest, to be read.

Clients look into logs, attestations and images' documents with it; whatever else it could be asked it refuses.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import grpc
from google.protobuf.empty_pb2 import Empty

from buildd.wire.services.errors import foreign_errors
from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.digest import Digest

Context = grpc.aio.ServicerContext[Any, Any]

_PIECE_BYTES: Final = 1 << 20
_READ_ONLY: Final = "the content of the builder's history is only read, by its digest"


class Blobs(Protocol):
    """Bytes by their digests."""

    async def blob(self, digest: Digest) -> bytes:
        """Return them. NotFoundError."""


class HistoryContentServicer(pb_grpc.ContentServicer):
    """The history's blobs."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        """Describe a blob."""
        with foreign_errors():
            data = await self._blobs.blob(Digest.parse(request.digest))
        return pb.InfoResponse(info=pb.Info(digest=request.digest, size=len(data)))

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)

    async def List(self, request: pb.ListContentRequest, context: Context) -> AsyncIterator[pb.ListContentResponse]:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)
        yield

    async def Delete(self, request: pb.DeleteContentRequest, context: Context) -> Empty:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)

    async def ListStatuses(self, request: pb.ListStatusesRequest, context: Context) -> pb.ListStatusesResponse:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)

    async def Write(
        self, requests: AsyncIterator[pb.WriteContentRequest], context: Context
    ) -> AsyncIterator[pb.WriteContentResponse]:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)
        yield

    async def Abort(self, request: pb.AbortRequest, context: Context) -> Empty:
        """Refuse."""
        raise UnimplementedError(_READ_ONLY)

    async def Read(self, request: pb.ReadContentRequest, context: Context) -> AsyncIterator[pb.ReadContentResponse]:
        """Send a part of a blob."""
        with foreign_errors():
            data = await self._blobs.blob(Digest.parse(request.digest))
            end = request.offset + request.size if request.size else len(data)
            if not 0 <= request.offset <= end <= len(data):
                raise InvalidArgumentError(
                    f"content {request.digest} has {len(data)} bytes: no part of it is asked for"
                )
        for offset in range(request.offset, end, _PIECE_BYTES):
            yield pb.ReadContentResponse(offset=offset, data=data[offset : min(end, offset + _PIECE_BYTES)])
