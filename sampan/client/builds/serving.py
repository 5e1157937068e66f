"""A session of one's own: what a client of the builder serves it.

The server listens on a socket that nobody else can open, and its bytes travel in the call that attaches the session.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from sampan.api.buildkit.session.v1 import auth_pb2, auth_pb2_grpc, upload_pb2, upload_pb2_grpc
from sampan.build.protocols import Served
from sampan.errors import SampanError
from sampan.log import log

if TYPE_CHECKING:
    from google.protobuf.message import Message

    Context = grpc.aio.ServicerContext[Message, Message]

Attach = Callable[[Sequence[tuple[str, str]], AsyncIterator[bytes]], AsyncGenerator[bytes, None]]

_HEADER: Final = "x-docker-expose-session-"
_PIECE_BYTES: Final = 1 << 20
_HUB: Final = frozenset(("registry-1.docker.io", "docker.io", "index.docker.io"))
_HUB_ENTRY: Final = "https://index.docker.io/v1/"

_METHODS: Final = {
    "credentials": ("/moby.filesync.v1.Auth/Credentials",),
    "uploads": ("/moby.upload.v1.Upload/Pull",),
}


@asynccontextmanager
async def serving(attach: Attach, session: str, served: Served) -> AsyncIterator[None]:
    """Serve ``served`` on a session of the ID ``session`` within."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-session-"))
        socket = Path(place, "s")
        server = grpc.aio.server()
        auth_pb2_grpc.add_AuthServicer_to_server(_Auth(served), server)
        upload_pb2_grpc.add_UploadServicer_to_server(_Upload(served), server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        stack.push_async_callback(server.stop, None)
        reader, writer = await asyncio.open_unix_connection(socket)
        stack.callback(writer.close)
        carrying = asyncio.create_task(_carry(attach, _headers(session), reader, writer), name="carry session")
        try:
            yield
        finally:
            carrying.cancel()
            await asyncio.wait({carrying})


def _headers(session: str) -> list[tuple[str, str]]:
    headers = [(f"{_HEADER}uuid", session), (f"{_HEADER}name", "sampan")]
    return headers + [(f"{_HEADER}grpc-method", method) for methods in _METHODS.values() for method in methods]


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


class _Auth(auth_pb2_grpc.AuthServicer):
    def __init__(self, served: Served) -> None:
        self._credentials = served.credentials

    async def Credentials(  # noqa: N802 - the service's name for it
        self, request: auth_pb2.CredentialsRequest, _: "Context"
    ) -> auth_pb2.CredentialsResponse:
        """What is known for a registry; nothing is an answer."""
        names = (_HUB_ENTRY, *_HUB) if request.Host in _HUB else (request.Host, f"https://{request.Host}")
        user, secret = next((self._credentials[name] for name in names if name in self._credentials), ("", ""))
        return auth_pb2.CredentialsResponse(Username="" if user == "<token>" else user, Secret=secret)

    async def FetchToken(  # noqa: N802
        self, request: auth_pb2.FetchTokenRequest, context: "Context"
    ) -> auth_pb2.FetchTokenResponse:
        """Not here: the builder asks for credentials, and fetches itself."""
        raise await _unimplemented(request, context)

    async def GetTokenAuthority(  # noqa: N802
        self, request: auth_pb2.GetTokenAuthorityRequest, context: "Context"
    ) -> auth_pb2.GetTokenAuthorityResponse:
        """As FetchToken."""
        raise await _unimplemented(request, context)

    async def VerifyTokenAuthority(  # noqa: N802
        self, request: auth_pb2.VerifyTokenAuthorityRequest, context: "Context"
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        """As FetchToken."""
        raise await _unimplemented(request, context)


async def _unimplemented(request: "Message", context: "Context") -> Exception:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.DESCRIPTOR.name} is not served")
    return AssertionError("abort raises")


class _Upload(upload_pb2_grpc.UploadServicer):
    def __init__(self, served: Served) -> None:
        self._uploads = dict(served.uploads)

    async def Pull(  # noqa: N802
        self, _: AsyncIterator[upload_pb2.BytesMessage], context: "Context"
    ) -> AsyncIterator[upload_pb2.BytesMessage]:
        """What is uploaded under an ID, once."""
        metadata = dict(context.invocation_metadata() or ())
        path = metadata.get("urlpath", "")
        name = (path if isinstance(path, str) else path.decode()).strip("/")
        begin = self._uploads.pop(name, None)
        if begin is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no upload {name}")
        async for chunk in begin():
            yield upload_pb2.BytesMessage(data=chunk)
