"""``containerd.services.content.v1.Content`` over the content store."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.empty_pb2 import Empty

from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.content.writes import write_session
from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as pb_grpc
from sampan.client.convert.content import STEP, blob_to_proto, reply_to_proto, status_to_proto
from sampan.errors import InvalidArgumentError
from sampan.filter_expressions import parse_filters
from sampan.oci.digest import Digest
from sampan.resource.content import WriteStep
from sampan.wire.metadata import LEASE, ONCE
from sampan.wire.pages import pages

Context = grpc.aio.ServicerContext[Any, Any]

_LIST_PAGE: Final = 100


class ContentServicer(pb_grpc.ContentServicer):
    """Decodes, calls, encodes."""

    def __init__(self, content: ContentStore, ingests: Ingests) -> None:
        self._content = content
        self._ingests = ingests

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        """Describe one blob."""
        return pb.InfoResponse(info=blob_to_proto(await self._content.info(Digest.parse(request.digest))))

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        """Change a blob's labels."""
        info = request.info
        blob = await self._content.update(Digest.parse(info.digest), dict(info.labels), request.update_mask.paths)
        return pb.UpdateResponse(info=blob_to_proto(blob))

    async def List(self, request: pb.ListContentRequest, context: Context) -> AsyncIterator[pb.ListContentResponse]:
        """Describe all blobs that a filter accepts."""
        blobs = await self._content.list(parse_filters(request.filters))
        for page in pages(pb.ListContentResponse, "info", map(blob_to_proto, blobs)):
            yield page

    async def Delete(self, request: pb.DeleteContentRequest, context: Context) -> Empty:
        """Remove one blob."""
        await self._content.delete(Digest.parse(request.digest))
        return Empty()

    async def Read(self, request: pb.ReadContentRequest, context: Context) -> AsyncIterator[pb.ReadContentResponse]:
        """Send a blob's bytes."""
        offset = request.offset
        async for piece in self._content.read(Digest.parse(request.digest), offset, request.size):
            yield pb.ReadContentResponse(offset=offset, data=piece)
            offset += len(piece)

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Say how far a write is."""
        return pb.StatusResponse(status=status_to_proto(self._ingests.status(request.ref)))

    async def ListStatuses(self, request: pb.ListStatusesRequest, context: Context) -> pb.ListStatusesResponse:
        """Say how far all writes are that a filter accepts."""
        statuses = self._ingests.statuses(parse_filters(request.filters))
        return pb.ListStatusesResponse(statuses=[status_to_proto(status) for status in statuses])

    async def Write(
        self, request_iterator: AsyncIterator[pb.WriteContentRequest], context: Context
    ) -> AsyncIterator[pb.WriteContentResponse]:
        """Write content, resumable by ref."""
        lease, once = _said(context, LEASE), _said(context, ONCE)
        steps = _steps(request_iterator)
        # A client that goes away ends this generator: the next writer must not wait for the garbage collector.
        async with aclosing(write_session(self._ingests, steps, lease, resumable=not once)) as replies:
            async for reply in replies:
                yield reply_to_proto(reply)

    async def Abort(self, request: pb.AbortRequest, context: Context) -> Empty:
        """Drop a write."""
        await self._ingests.abort(request.ref)
        return Empty()


def _said(context: Context, name: str) -> str:
    """Return what the call's metadata says under a name, such as the lease; empty if nothing."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == name), "")


async def _steps(requests: AsyncIterator[pb.WriteContentRequest]) -> AsyncIterator[WriteStep]:
    async for request in requests:
        yield _step(request)


def _step(request: pb.WriteContentRequest) -> WriteStep:
    step = STEP.decode(request)
    if step.total < 0 or step.offset < 0:
        raise InvalidArgumentError(f"ref {step.ref}: offset {step.offset}, total {step.total}")
    return step
