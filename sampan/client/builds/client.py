"""Client of the builder: ``moby.buildkit.v1.Control``."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.api.buildkit.control.v1.control_pb2_grpc import ControlStub
from sampan.build.protocols import Served, StatusUpdate
from sampan.build.request import PruneOptions, SolveRequest, SolveResponse, UsageRecord
from sampan.client.builds import convert
from sampan.client.builds.serving import serving
from sampan.client.calls import read
from sampan.errors import InvalidArgumentError, SampanError, UnavailableError
from sampan.handing.desk import METADATA_KEY, handed, new_name
from sampan.services import RESTART_S
from sampan.wire.channel import reach, rpc_errors
from sampan.wire.http2.call import Call, start
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.protocol import READ_BYTES, SocketStream
from sampan.wire.status import from_rpc_error

if TYPE_CHECKING:
    from sampan.api.buildkit.control.v1.control_pb2_grpc import ControlAsyncStub

_STATUS: Final = "/moby.buildkit.v1.Control/Status"
_SESSION: Final = "/moby.buildkit.v1.Control/Session"
_GONE: Final = "service buildd does not answer: see `sampan status` and its log"


class BuildsClient:
    """Satisfies ``build.protocols.Builder``."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        socket: Path,
        desk: Path | None = None,
        *,
        waits: bool = False,
        is_empty: Callable[[], bool] = lambda: False,
    ) -> None:
        """``socket`` is where the builder listens, for those who speak HTTP/2 themselves.

        ``desk`` is where it takes descriptors; None: it is on another host.

        With ``waits`` the builder is known to be there: one that is away was killed, and is waited for before a call.
        ``is_empty`` says whether it does not run and has no records, so that it need not be started to say so.
        """
        self._channel = channel
        self._is_empty = is_empty
        self._waits = waits
        self._stub: ControlAsyncStub = ControlStub(channel)
        self._socket = socket
        self._desk = desk
        self._status: grpc.aio.UnaryStreamMultiCallable[pb.StatusRequest, bytes] = channel.unary_stream(
            _STATUS, request_serializer=pb.StatusRequest.SerializeToString
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See ``build.protocols.Builder``."""
        await self._reach()
        try:
            return await asyncio.open_unix_connection(self._socket, limit=READ_BYTES)
        except OSError as error:
            raise UnavailableError(_GONE) from error

    async def session(
        self, headers: Sequence[tuple[str, str]], sent: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """See ``build.protocols.Builder``. Not by grpcio, for which what a walk of thousands of files says is much."""
        async with self._session(headers) as call:
            sending = asyncio.create_task(_send(call, sent), name="session's bytes")
            try:
                async for messages in call:
                    yield b"".join(pb.BytesMessage.FromString(message).data for message in messages)
            finally:
                sending.cancel()
                await asyncio.wait({sending})

    async def lend_session(self, headers: Sequence[tuple[str, str]], fd: int, begun: bytes) -> None:
        """See ``build.protocols.Builder``. The call says how long it lasts, and carries what was read already."""
        if self._desk is None:
            raise InvalidArgumentError("descriptors cannot be handed over to another host")
        name = new_name()
        async with self._session((*headers, (METADATA_KEY, name))) as call, handed(self._desk, name, fd):
            await call.send(pb.BytesMessage(data=begun).SerializeToString())
            while await call.receive():
                pass  # it has nothing to say but how it ended

    @asynccontextmanager
    async def _session(self, headers: Sequence[tuple[str, str]]) -> AsyncIterator[Call]:
        """Yield the call of a session, on a connection of its own."""
        connection = Connection(SocketStream(*await self.connect()), _GONE, watched=False)
        running = asyncio.create_task(connection.run(), name="session's connection")
        try:
            async with await start(connection, _SESSION, headers) as call:
                yield call
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @asynccontextmanager
    async def serve(self, served: Served) -> AsyncIterator[str]:
        """See ``build.protocols.Builder``."""
        await self._reach()
        session = secrets.token_hex(12)
        async with serving(self.session, session, served):
            yield session

    async def solve(self, request: SolveRequest) -> SolveResponse:
        """See ``build.protocols.Builder``."""
        await self._reach()
        try:
            response = await self._stub.Solve(convert.solve_to_proto(request))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            if shown := convert.excerpt(error):
                failure.add_note(shown)
            raise failure from error
        return SolveResponse(dict(response.ExporterResponse))

    def status(self, ref: str) -> AsyncGenerator[StatusUpdate, None]:
        """See ``build.protocols.Builder``."""
        return read(self._status(pb.StatusRequest(Ref=ref)), _decode)

    async def usage(self, filters: Sequence[str] = ()) -> Sequence[UsageRecord]:
        """See ``build.protocols.Builder``."""
        if not filters and self._is_empty():
            return ()
        await self._reach()
        with rpc_errors():
            response = await self._stub.DiskUsage(pb.DiskUsageRequest(filter=filters))
        return [convert.usage_from_proto(record) for record in response.record]

    async def prune(self, options: PruneOptions) -> AsyncGenerator[UsageRecord, None]:
        """See ``build.protocols.Builder``."""
        await self._reach()
        call = self._stub.Prune(convert.prune_to_proto(options))
        async with aclosing(read(call, convert.usage_from_proto)) as records:
            async for record in records:
                yield record

    async def _reach(self) -> None:
        if self._waits:
            await reach(self._channel, "buildd", RESTART_S)


async def _send(call: Call, sent: AsyncIterator[bytes]) -> None:
    """Pass on what a session's owner sends, until that ends or is gone. How the call ends, its reader learns."""
    with suppress(SampanError):
        with suppress(OSError):
            async for data in sent:
                await call.send(pb.BytesMessage(data=data).SerializeToString())
        await call.end()


def _decode(encoded: bytes) -> StatusUpdate:
    return StatusUpdate(convert.updates_from_proto(pb.StatusResponse.FromString(encoded)), encoded)
