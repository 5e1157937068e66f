"""What a session of one's own serves: small answers, and agents. Directories and uploads are ``served_files``'.

Reference: moby/buildkit, ``session`` (auth, secrets, sshforward).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc

from sampan.api.buildkit.session.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    secrets_pb2,
    secrets_pb2_grpc,
    sshforward_pb2,
    sshforward_pb2_grpc,
)
from sampan.build.protocols import Served
from sampan.errors import NotFoundError, SampanError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    Context = grpc.aio.ServicerContext[Message, Message]

_PIECE_BYTES: Final = 32 << 10
_DEFAULT_AGENT: Final = "default"
_AGENT_ID: Final = "buildkit.ssh.id"
_HUB: Final = frozenset(("registry-1.docker.io", "docker.io", "index.docker.io"))


def one(context: "Context", name: str) -> str:
    """Return a value of a call's metadata, empty if there is none."""
    found = dict(context.invocation_metadata() or ()).get(name, "")
    return found if isinstance(found, str) else found.decode()


class AuthServicer(auth_pb2_grpc.AuthServicer):
    """Credentials for registries. The builder fetches tokens itself."""

    def __init__(self, served: Served) -> None:
        self._find = served.credentials

    async def Credentials(  # noqa: N802 - the service's name for it
        self, request: auth_pb2.CredentialsRequest, _: "Context"
    ) -> auth_pb2.CredentialsResponse:
        """What is known for a registry; nothing is an answer."""
        registry = "docker.io" if request.Host in _HUB else request.Host
        found = None if self._find is None else await self._find(registry)
        user, secret = found or ("", "")
        return auth_pb2.CredentialsResponse(Username="" if user == "<token>" else user, Secret=secret)

    async def FetchToken(  # noqa: N802
        self, request: auth_pb2.FetchTokenRequest, context: "Context"
    ) -> auth_pb2.FetchTokenResponse:
        """Not served."""
        raise await _unimplemented(request, context)

    async def GetTokenAuthority(  # noqa: N802
        self, request: auth_pb2.GetTokenAuthorityRequest, context: "Context"
    ) -> auth_pb2.GetTokenAuthorityResponse:
        """Not served."""
        raise await _unimplemented(request, context)

    async def VerifyTokenAuthority(  # noqa: N802
        self, request: auth_pb2.VerifyTokenAuthorityRequest, context: "Context"
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        """Not served."""
        raise await _unimplemented(request, context)


async def _unimplemented(request: "Message", context: "Context") -> Exception:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.DESCRIPTOR.name} is not served")
    return AssertionError("abort raises")


class SecretsServicer(secrets_pb2_grpc.SecretsServicer):
    """Secrets by ID."""

    def __init__(self, served: Served) -> None:
        self._secrets = served.secrets

    async def GetSecret(  # noqa: N802
        self, request: secrets_pb2.GetSecretRequest, context: "Context"
    ) -> secrets_pb2.GetSecretResponse:
        """Read one."""
        read = self._secrets.get(request.ID)
        if read is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"secret {request.ID} not found")
        try:
            return secrets_pb2.GetSecretResponse(data=await asyncio.to_thread(read))
        except NotFoundError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except SampanError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("abort raises")


class SshServicer(sshforward_pb2_grpc.SSHServicer):
    """Connections to SSH agents."""

    def __init__(self, served: Served) -> None:
        self._agents = served.agents

    async def CheckAgent(  # noqa: N802
        self, request: sshforward_pb2.CheckAgentRequest, context: "Context"
    ) -> sshforward_pb2.CheckAgentResponse:
        """Say whether there is such an agent."""
        name = request.ID or _DEFAULT_AGENT
        if name not in self._agents:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unset ssh forward key {name}")
        return sshforward_pb2.CheckAgentResponse()

    async def ForwardAgent(  # noqa: N802
        self, requests: AsyncIterator[sshforward_pb2.BytesMessage], context: "Context"
    ) -> AsyncIterator[sshforward_pb2.BytesMessage]:
        """Carry one connection."""
        path = self._agents.get(one(context, _AGENT_ID) or _DEFAULT_AGENT)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unset ssh forward key")
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{path}: {error.strerror}")

        async def send() -> None:
            async for message in requests:
                writer.write(message.data)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send(), name="send to agent")
        try:
            while data := await reader.read(_PIECE_BYTES):
                yield sshforward_pb2.BytesMessage(data=data)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
