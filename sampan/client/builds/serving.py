"""A session of one's own: what a client of the builder serves it.

The server listens on a socket that nobody else can open, and its bytes travel in the call that attaches the session.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import grpc

from sampan.api.buildkit.session.v1 import auth_pb2_grpc, secrets_pb2_grpc, sshforward_pb2_grpc, upload_pb2_grpc
from sampan.build.protocols import Served
from sampan.client.builds.attachables import AuthServicer, SecretsServicer, SshServicer, UploadServicer
from sampan.client.builds.served_files import file_handlers
from sampan.errors import SampanError
from sampan.log import log

Attach = Callable[[Sequence[tuple[str, str]], AsyncIterator[bytes]], AsyncGenerator[bytes, None]]

_HEADER: Final = "x-docker-expose-session-"
_PIECE_BYTES: Final = 1 << 20
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
        upload_pb2_grpc.add_UploadServicer_to_server(UploadServicer(served), server)
        secrets_pb2_grpc.add_SecretsServicer_to_server(SecretsServicer(served), server)
        sshforward_pb2_grpc.add_SSHServicer_to_server(SshServicer(served), server)
        server.add_generic_rpc_handlers(file_handlers(served))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        stack.push_async_callback(server.stop, None)
        reader, writer = await asyncio.open_unix_connection(socket)
        stack.callback(writer.close)
        carrying = asyncio.create_task(_carry(attach, _headers(session, served), reader, writer), name="carry session")
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


async def _carry(
    attach: Attach,
    headers: Sequence[tuple[str, str]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    async def sent() -> AsyncIterator[bytes]:
        while data := await reader.read(_PIECE_BYTES):
            yield data

    try:
        async with aclosing(attach(headers, sent())) as pieces:
            async for piece in pieces:
                writer.write(piece)
                await writer.drain()
    except (SampanError, OSError) as error:  # whoever needed the session says so
        log.debug("session has ended", error=str(error))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
