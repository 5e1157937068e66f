"""A content store that the client of a build serves on its session.

Reference: moby/buildkit, ``session/content``; containerd, ``api/services/content/v1``.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from sampan.api.containerd.content.v1 import content_pb2 as pb
from sampan.client.convert.content import blob_from_proto
from sampan.errors import AlreadyExistsError, DataLossError, RemoteError
from sampan.oci.digest import Digest
from sampan.resource.content import Blob
from sampan.wire.http2.call import Call, start, unary
from sampan.wire.http2.connection import Connection

_SERVICE: Final = "/containerd.services.content.v1.Content"
_STORE: Final = "buildkit-attachable-store-id"
# gRPC's own bound for messages is 4 MiB on the other side.
_PIECE_BYTES: Final = 1 << 20


class SessionContent:
    """One store of one session."""

    def __init__(self, connection: Connection, store: str, timeout_s: float) -> None:
        """``timeout_s`` bounds what is answered at once."""
        self._connection = connection
        self._metadata = ((_STORE, store),)
        self._timeout_s = timeout_s

    async def info(self, digest: str) -> Blob:
        """Return what is known of a blob. NotFoundError."""
        request = pb.InfoRequest(digest=digest).SerializeToString()
        answer = await unary(self._connection, f"{_SERVICE}/Info", request, self._metadata, self._timeout_s)
        try:
            return blob_from_proto(pb.InfoResponse.FromString(answer).info)
        except DecodeError as error:
            raise RemoteError(f"the client answers nonsense about blob {digest}") from error

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from ``offset``, unverified; ``size`` 0: to the end. NotFoundError."""
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size).SerializeToString()
        async with await start(self._connection, f"{_SERVICE}/Read", self._metadata) as call:
            await call.send(request, end=True)
            async for messages in call:
                for message in messages:
                    try:
                        yield pb.ReadContentResponse.FromString(message).data
                    except DecodeError as error:
                        raise RemoteError(f"the client answers nonsense instead of blob {digest}") from error

    async def write(
        self, digest: Digest, size: int, chunks: AsyncIterable[bytes], labels: Mapping[str, str] | None = None
    ) -> None:
        """Have the client keep a blob; one that it has already is not sent.

        Raises:
            DataLossError: ``chunks`` are not what ``digest`` and ``size`` say.
        """
        try:
            async with await start(self._connection, f"{_SERVICE}/Write", self._metadata) as call:
                await self._write(call, digest, size, chunks, labels or {})
        except AlreadyExistsError:
            return

    async def _write(
        self, call: Call, digest: Digest, size: int, chunks: AsyncIterable[bytes], labels: Mapping[str, str]
    ) -> None:
        ref = f"sampan-{digest}"
        first = pb.WriteContentRequest(action=pb.STAT, ref=ref, total=size, expected=digest)
        await _ask(call, first)
        offset = 0  # a write or a commit there drops what the client has of an earlier try
        async for chunk in chunks:
            for at in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[at : at + _PIECE_BYTES]
                step = pb.WriteContentRequest(action=pb.WRITE, offset=offset, data=piece)
                offset += len(piece)
                if (answer := await _ask(call, step)).offset != offset:
                    raise RemoteError(f"the client has {answer.offset} bytes of blob {digest}, {offset} were sent")
        if offset != size:
            raise DataLossError(f"blob {digest} has {size} bytes, {offset} were read")
        commit = pb.WriteContentRequest(action=pb.COMMIT, offset=offset, total=size, expected=digest, labels=labels)
        await _ask(call, commit)
        await call.end()
        while await call.receive():
            pass


async def _ask(call: Call, step: pb.WriteContentRequest) -> pb.WriteContentResponse:
    await call.send(step.SerializeToString())
    messages = await call.receive()
    if not messages:
        raise RemoteError("the client does not answer each message of a write")
    try:
        return pb.WriteContentResponse.FromString(messages[0])  # containerd repeats the last answer
    except DecodeError as error:
        raise RemoteError("the client answers nonsense to a write") from error
