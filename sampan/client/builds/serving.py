"""A session of one's own: what a client of the builder serves it.

The session's bytes travel in the call that attaches it. What asks for files is answered from there, and all else by
gRPC's server, which listens on a socket that nobody else can open.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import grpc

from sampan.api.buildkit.session.v1 import auth_pb2_grpc, secrets_pb2_grpc, sshforward_pb2_grpc
from sampan.build.protocols import Served
from sampan.client.builds.attachables import AuthServicer, SecretsServicer, SshServicer
from sampan.client.builds.served_files import ServedFiles
from sampan.errors import SampanError
from sampan.log import log
from sampan.wire.http2.relay import serve_in_front

Attach = Callable[[Sequence[tuple[str, str]], AsyncIterator[bytes]], AsyncGenerator[bytes, None]]

_HEADER: Final = "x-docker-expose-session-"
_PIECE_BYTES: Final = 1 << 20
_WAITING_PIECES: Final = 4
_METHODS: Final = (
    ("credentials", "/moby.filesync.v1.Auth/Credentials"),
    ("uploads", "/moby.upload.v1.Upload/Pull"),
    ("directories", "/moby.filesync.v1.FileSync/DiffCopy"),
    ("outputs", "/moby.filesync.v1.FileSend/DiffCopy"),
    ("secrets", "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
    ("agents", "/moby.sshforward.v1.SSH/CheckAgent"),
    ("agents", "/moby.sshforward.v1.SSH/ForwardAgent"),
)


@asynccontextmanager
async def serving(attach: Attach, session: str, served: Served) -> AsyncIterator[None]:
    """Serve ``served`` on a session of the ID ``session`` within."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-session-"))
        socket = Path(place, "s")
        server = grpc.aio.server()
        auth_pb2_grpc.add_AuthServicer_to_server(AuthServicer(served), server)
        secrets_pb2_grpc.add_SecretsServicer_to_server(SecretsServicer(served), server)
        sshforward_pb2_grpc.add_SSHServicer_to_server(SshServicer(served), server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        stack.push_async_callback(server.stop, None)
        carrying = asyncio.create_task(_carry(attach, _headers(session, served), served, socket), name="carry session")
        try:
            yield
        finally:
            carrying.cancel()
            await asyncio.wait({carrying})


def _headers(session: str, served: Served) -> list[tuple[str, str]]:
    headers = [(f"{_HEADER}uuid", session), (f"{_HEADER}name", "sampan")]
    if served.shared_key:
        headers.append((f"{_HEADER}sharedkey", served.shared_key))
    # That there are no credentials is an answer, too.
    told = [method for what, method in _METHODS if what == "credentials" or getattr(served, what)]
    return headers + [(f"{_HEADER}grpc-method", method) for method in told]


async def _carry(attach: Attach, headers: Sequence[tuple[str, str]], served: Served, behind: Path) -> None:
    carrier = _Attached()
    try:
        async with aclosing(attach(headers, carrier.sent())) as pieces:
            carrier.received = pieces
            await serve_in_front(carrier, behind, ServedFiles(served).answer)
    except (SampanError, OSError) as error:  # whoever needed the session says so
        log.debug("session has ended", error=str(error))


class _Attached:
    """The call that attaches a session, as a ``sampan.wire.http2.protocol.ByteStream``."""

    def __init__(self) -> None:
        self.received: AsyncGenerator[bytes, None] | None = None
        self._to_send: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_PIECES)

    async def sent(self) -> AsyncIterator[bytes]:
        """Yield what is to go out, until the stream is closed."""
        while data := await self._to_send.get():
            yield data

    async def read(self) -> bytes:
        assert self.received is not None
        try:
            async for piece in self.received:
                if piece:
                    return piece
        except SampanError as error:
            raise ConnectionError(str(error)) from error
        return b""

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE_BYTES):
            await self._to_send.put(data[at : at + _PIECE_BYTES])

    async def close(self) -> None:
        """End it: nothing more is sent. Who reads from it is cancelled by the connection."""
        with suppress(asyncio.QueueFull):
            self._to_send.put_nowait(b"")
