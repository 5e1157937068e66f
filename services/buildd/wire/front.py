"""What answers at the builder's socket: sessions here, everything else by gRPC's own server behind.

The bytes of a client's session come in the messages of one call, a frame of a few dozen bytes in each: a context of
30,000 files is as many messages, for which grpcio takes ten seconds and more. So that call is read here. A caller on
this host that has the client's own socket hands that over instead; the call says then how long the session lasts.

Reference: moby/buildkit, ``session/grpchijack``.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from buildd.session.protocol import SessionInfo, Sessions
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.errors import RemoteError, SampanError, UnavailableError, UnimplementedError
from sampan.handing.desk import METADATA_KEY, Desk
from sampan.wire.entrance import Entrance
from sampan.wire.http2.call import ServedCall
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode
from sampan.wire.http2.protocol import READ_BYTES, ByteStream, SocketStream
from sampan.wire.http2.relay import HEAD, ending, path_of, relay, serve_in_front
from sampan.wire.http2.served import answering
from sampan.wire.http2.stream import Headers, Stream

log = structlog.get_logger(__name__)

_SESSION: Final = "/moby.buildkit.v1.Control/Session"
_OF_FRONTENDS: Final = ("/moby.buildkit.v1.frontend.LLBBridge/", "/grpc.health.v1.Health/")
_GATEWAY: Final = "buildkit-controlapi-buildid"
_HEADER: Final = "x-docker-expose-session-"
# The client's bound for messages is 4 MiB.
_PIECE_BYTES: Final = 1 << 20
_HANDED_S: Final = 30.0  # for a socket to come, which is on its way
_CLOSE_S: Final = 5.0  # for the last bytes to go to a client


class Front:
    """Listens for a builder."""

    def __init__(self, sessions: Sessions, desk: Desk | None = None) -> None:
        """``desk`` is where clients' sockets are handed over, if they are."""
        self._sessions = sessions
        self._desk = desk
        self._behind: Path | None = None

    @asynccontextmanager
    async def listening(self, socket: Path | Entrance, behind: Path) -> AsyncIterator[None]:
        """Answer at ``socket`` within; what is no session is answered at the socket ``behind``."""

        def work(request: Stream, headers: Headers, far: Connection) -> Coroutine[None, None, None]:
            return self._session(request, headers) if path_of(headers) == _SESSION else relay(request, headers, far)

        async def serve(stream: ByteStream) -> None:
            await serve_in_front(stream, behind, work)

        self._behind = behind
        async with answering(socket, serve):
            yield

    async def serve_frontend(self, stream: ByteStream, gateway: str) -> None:
        """Answer what a frontend asks on a connection of its own, to its end: of that gateway, and nothing else."""

        def work(request: Stream, headers: Headers, far: Connection) -> Coroutine[None, None, None]:
            if not path_of(headers).startswith(_OF_FRONTENDS):
                return _refuse(request)
            own = [(name, value) for name, value in headers if name != _GATEWAY]
            return relay(request, (*own, (_GATEWAY, gateway)), far)

        if self._behind is None:
            raise UnavailableError("the builder does not serve yet")
        await serve_in_front(stream, self._behind, work)

    async def _session(self, request: Stream, headers: Headers) -> None:
        """Attach a client's session, whose bytes are in the messages, or on a socket that is handed over."""
        error: Exception | None = None
        try:
            request.send_headers(HEAD)
            name = next((value for key, value in headers if key == METADATA_KEY), "")
            if name:
                async with self._handed(name, ServedCall(request)) as stream:
                    await self._sessions.attach(stream, _info(headers))
            else:
                await self._sessions.attach(_CallStream(request), _info(headers))
        except SampanError as known:
            error = known
        except Exception as bug:
            log.exception("a session failed")
            error = bug
        finally:
            request.send_headers(ending(error), end=True)
            request.close(ErrorCode.NO_ERROR)

    @asynccontextmanager
    async def _handed(self, name: str, call: ServedCall) -> AsyncIterator[ByteStream]:
        """Yield a client's connection that comes under ``name``; it is closed, on this side, when the call is over."""
        if self._desk is None:
            raise UnimplementedError("this builder takes no sockets")
        with ExitStack() as stack:
            try:
                async with asyncio.timeout(_HANDED_S):
                    async with self._desk.taken(name) as fd:
                        own = stack.enter_context(socket.socket(fileno=os.dup(fd)))
                    begun = _bytes_of(await call.receive())
            except TimeoutError:
                raise UnavailableError("the socket of a client's session has not come") from None
            stream = _HandedStream(*await asyncio.open_connection(sock=own, limit=READ_BYTES), begun)
            stack.pop_all()  # from here on it is the stream's
        waiting = asyncio.create_task(_close_after(call, stream), name="session's call")
        try:
            yield stream
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await stream.close()


async def _close_after(call: ServedCall, stream: ByteStream) -> None:
    with suppress(SampanError):  # who has handed it over is gone
        while await call.receive():
            pass
    await stream.close()


class _HandedStream(SocketStream):
    """A socket of which something was read before it came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes) -> None:
        super().__init__(reader, writer)
        self._begun = begun

    async def read(self) -> bytes:
        """Return what was read before, and then what comes."""
        begun, self._begun = self._begun, b""
        return begun or await super().read()

    async def close(self) -> None:
        """Close it; return when its descriptor is, for which a client that reads no more is not waited for long."""
        await super().close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()


async def _refuse(request: Stream) -> None:
    request.send_headers((*HEAD, *ending(UnimplementedError("a frontend asks of its build alone"))), end=True)
    request.close(ErrorCode.NO_ERROR)


class _CallStream:
    """A ``sampan.wire.http2.protocol.ByteStream`` in the messages of a call."""

    def __init__(self, request: Stream) -> None:
        self._request = request
        self._call = ServedCall(request)
        self._closed = False

    async def read(self) -> bytes:
        while not self._closed:
            try:
                messages = await self._call.receive()
            except UnavailableError:  # the client is gone
                return b""
            data = _bytes_of(messages)
            if data or not messages:
                return data
        return b""

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise BrokenPipeError("the session's call has ended")
        pieces = (data[at : at + _PIECE_BYTES] for at in range(0, len(data), _PIECE_BYTES))
        try:
            await self._call.send_all(pb.BytesMessage(data=piece).SerializeToString() for piece in pieces)
        except SampanError as error:
            raise BrokenPipeError(str(error)) from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._request.take_no_more()


def _bytes_of(messages: Sequence[bytes]) -> bytes:
    try:
        return b"".join(pb.BytesMessage.FromString(message).data for message in messages)
    except DecodeError as error:
        raise RemoteError("the client sends its session in messages that are none") from error


def _info(headers: Headers) -> SessionInfo:
    """Return what a client says of its session in the call's metadata."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith(_HEADER):
            values.setdefault(name.removeprefix(_HEADER), []).append(value)
    return SessionInfo(
        id=values.get("uuid", [""])[0],
        name=values.get("name", [""])[0],
        shared_key=values.get("sharedkey", [""])[0],
        methods=frozenset(values.get("grpc-method", ())),
    )
