"""Client of ``containerd.services.content.v1.Content``."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.api.containerd.content.v1.content_pb2_grpc import ContentStub
from sampan.client.calls import read
from sampan.client.convert import content as convert
from sampan.errors import UnavailableError
from sampan.resource.content import Blob, IngestStatus, WriteReply, WriteStep
from sampan.wire.channel import rpc_errors
from sampan.wire.metadata import LEASE, ONCE

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.containerd.content.v1.content_pb2_grpc import ContentAsyncStub

    WriteCall: TypeAlias = grpc.aio.StreamStreamCall[pb.WriteContentRequest, pb.WriteContentResponse]


class Conversation:
    """A write that goes on: one message, one answer. To send on into one that has ended does not say why it ended."""

    def __init__(self, call: "WriteCall") -> None:
        self._call = call

    async def ask(self, step: WriteStep) -> WriteReply:
        """Send a message and return the answer.

        Raises:
            AlreadyExistsError: content with the expected digest is here.
            UnavailableError: the store has ended the conversation.
        """
        with rpc_errors():
            await self._call.write(convert.STEP.encode(step))
            answer = await self._call.read()
        if not isinstance(answer, pb.WriteContentResponse):
            raise UnavailableError("the content store ended a write early")
        return convert.reply_from_proto(answer)

    async def hang_up(self) -> None:
        """End it. Raises how it ended: a commit that failed, among others."""
        with rpc_errors():
            await self._call.done_writing()
            await self._call.read()


class ContentClient:
    """A content store, imaged's or containerd's own."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float | None = None) -> None:
        """``deadline_s`` bounds calls that answer at once."""
        self._stub: ContentAsyncStub = ContentStub(channel)
        self._deadline_s = deadline_s

    async def info(self, digest: str) -> Blob:
        """Return one blob. NotFoundError."""
        with rpc_errors():
            answer = await self._stub.Info(pb.InfoRequest(digest=digest), timeout=self._deadline_s)
        return convert.blob_from_proto(answer.info)

    async def update(self, digest: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Blob:
        """Change labels, all of them or those of ``labels.<name>`` in ``paths``; an empty one is removed."""
        info = pb.Info(digest=digest, labels=labels)
        request = pb.UpdateRequest(info=info, update_mask=FieldMask(paths=paths))
        with rpc_errors():
            return convert.blob_from_proto((await self._stub.Update(request, timeout=self._deadline_s)).info)

    def list(self, filters: Sequence[str] = ()) -> AsyncGenerator[Sequence[Blob], None]:
        """Yield blobs that any of ``filters`` accepts, some at a time."""
        call = self._stub.List(pb.ListContentRequest(filters=filters), timeout=self._deadline_s)
        return read(call, lambda page: [convert.blob_from_proto(info) for info in page.info])

    async def delete(self, digest: str) -> None:
        """Remove one blob. NotFoundError."""
        with rpc_errors():
            await self._stub.Delete(pb.DeleteContentRequest(digest=digest), timeout=self._deadline_s)

    def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from ``offset``; ``size`` 0: to the end. NotFoundError before the first piece."""
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        return read(self._stub.Read(request), attrgetter("data"))

    async def status(self, ref: str) -> IngestStatus:
        """Say how far a write is. NotFoundError."""
        with rpc_errors():
            answer = await self._stub.Status(pb.StatusRequest(ref=ref), timeout=self._deadline_s)
        return convert.status_from_proto(answer.status)

    async def statuses(self, filters: Sequence[str] = ()) -> Sequence[IngestStatus]:
        """Say how far all writes are that any of ``filters`` accepts."""
        with rpc_errors():
            answer = await self._stub.ListStatuses(pb.ListStatusesRequest(filters=filters), timeout=self._deadline_s)
        return [convert.status_from_proto(status) for status in answer.statuses]

    @asynccontextmanager
    async def write(
        self, *, lease: str = "", resumable: bool = True, timeout_s: float | None = None
    ) -> AsyncIterator[Conversation]:
        """Talk about a write within; what is not committed at the end can be resumed by its ref.

        Unless it is ``resumable``, imaged drops it then, and also if this process dies. ``lease`` keeps what is
        committed.
        """
        metadata = (*(((LEASE, lease),) if lease else ()), *(() if resumable else ((ONCE, "1"),)))
        call = self._stub.Write(metadata=metadata, timeout=timeout_s)
        try:
            yield Conversation(call)
        finally:
            call.cancel()

    async def abort(self, ref: str, timeout_s: float | None = None) -> None:
        """Drop a write. NotFoundError."""
        with rpc_errors():
            await self._stub.Abort(pb.AbortRequest(ref=ref), timeout=timeout_s or self._deadline_s)
