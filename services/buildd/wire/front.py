"""What answers at the builder's socket: sessions here, everything else by gRPC's own server behind.

The bytes of a client's session come in the messages of one call, a frame of a few dozen bytes in each: a context of
30,000 files is as many messages, for which grpcio takes ten seconds and more. So that call is read here.

Reference: moby/buildkit, ``session/grpchijack``.
"""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from buildd.session.protocol import SessionInfo, Sessions
from sampan.api.buildkit.control.v1 import control_pb2 as pb
from sampan.errors import RemoteError, SampanError, UnavailableError, UnimplementedError
from sampan.wire.entrance import Entrance
from sampan.wire.http2.call import ServedCall
from sampan.wire.http2.connection import Connection
from sampan.wire.http2.frames import ErrorCode
from sampan.wire.http2.protocol import ByteStream
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


class Front:
    """Listens for a builder."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
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
        """Attach a client's session, whose bytes are in the messages."""
        stream = _CallStream(request)
        error: Exception | None = None
        try:
            request.send_headers(HEAD)
            await self._sessions.attach(stream, _info(headers))
        except SampanError as known:
            error = known
        except Exception as bug:
            log.exception("a session failed")
            error = bug
        finally:
            request.send_headers(ending(error), end=True)
            request.close(ErrorCode.NO_ERROR)


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
                data = b"".join(pb.BytesMessage.FromString(message).data for message in messages)
            except UnavailableError:  # the client is gone
                return b""
            except DecodeError as error:
                raise RemoteError("the client sends its session in messages that are none") from error
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
