"""A credential helper: a program ``docker-credential-<name>`` that keeps passwords for registries.

It is started for each question, with a verb (get, store, erase) as its argument, and answers in JSON on its output. On
failure its output is what is wrong; what it writes to standard error goes to the user.

Reference: https://github.com/docker/docker-credential-helpers#development
"""

import asyncio
import json
from typing import Final

from sampan.errors import NotFoundError, UnauthenticatedError
from sampan.resource.image import Credentials

# The name that helpers give to an entry whose secret is a refresh token rather than a password.
_TOKEN_USER: Final = "<token>"  # noqa: S105 - a user name

# A helper may ask its user to unlock something.
HELPER_TIMEOUT_S: Final = 60.0

# Tokens are of some kilobytes.
_MAX_ANSWER_BYTES: Final = 256 << 10

# All helpers have the same exit code for everything, and these words for what they do not know.
_UNKNOWN: Final = "credentials not found"


class CredentialHelper:
    """One helper, by the last part of its name."""

    def __init__(self, name: str, timeout_s: float = HELPER_TIMEOUT_S) -> None:
        self.program = f"docker-credential-{name}"
        self._timeout_s = timeout_s

    async def get(self, key: str) -> Credentials | None:
        """Return what it keeps under ``key``, None if that is nothing.

        Raises:
            NotFoundError, UnauthenticatedError: as ``_call``; its answer makes no sense.
        """
        code, output = await self._call("get", key)
        if code and _UNKNOWN in output.lower():
            return None
        self._check("get", code, output)
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        username, secret = (answer.get(name, "") for name in ("Username", "Secret")) if _is_object(answer) else (0, 0)
        if not isinstance(username, str) or not isinstance(secret, str):
            raise UnauthenticatedError(f"{self.program} get: the answer is not an object of Username and Secret")
        if not username and not secret:
            return None
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username=username, password=secret)

    async def store(self, key: str, credentials: Credentials) -> None:
        """Keep credentials under ``key``. Raises as ``_call``."""
        token = credentials.identity_token
        entry = {
            "ServerURL": key,
            "Username": _TOKEN_USER if token else credentials.username,
            "Secret": token or credentials.password,
        }
        self._check("store", *await self._call("store", json.dumps(entry)))

    async def erase(self, key: str) -> None:
        """Forget what is kept under ``key``; it may be nothing. Raises as ``_call``."""
        code, output = await self._call("erase", key)
        if _UNKNOWN not in output.lower():
            self._check("erase", code, output)

    def _check(self, verb: str, code: int, output: str) -> None:
        if code:
            said = "".join(c if c.isprintable() else " " for c in output.strip())[:500]
            raise UnauthenticatedError(f"{self.program} {verb}: {said or f'exit status {code}'}")

    async def _call(self, verb: str, text: str) -> tuple[int, str]:
        """Return exit code and output.

        Raises:
            NotFoundError: there is no such program.
            UnauthenticatedError: it cannot be run, has no end, or its output has none.
        """
        loop = asyncio.get_running_loop()
        try:
            transport, answer = await loop.subprocess_exec(_Answer, self.program, verb, stderr=None)
        except FileNotFoundError as error:
            raise NotFoundError(f"credential helper {self.program} is not in $PATH") from error
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UnauthenticatedError(f"credential helper {self.program} cannot be run: {why}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                _write(transport, text.encode())
                await answer.enough.wait()
        except TimeoutError as error:
            raise UnauthenticatedError(
                f"{self.program} {verb} did not answer within {self._timeout_s:g} seconds"
            ) from error
        finally:
            # Kills it, and closes our ends: what it has started itself may hold its own for ever.
            transport.close()
            await answer.over.wait()
        if len(answer.output) > _MAX_ANSWER_BYTES:
            raise UnauthenticatedError(f"{self.program} {verb}: the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        return transport.get_returncode() or 0, answer.output.decode("utf-8", "replace")


class _Answer(asyncio.SubprocessProtocol):
    """What a helper writes, until it has ended and its output too, or it is more than is taken."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.enough = asyncio.Event()
        self.over = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        """Keep a piece of the output."""
        self.output += data
        if len(self.output) > _MAX_ANSWER_BYTES:
            self.enough.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as above
        """Note that process and pipes are gone."""
        self.enough.set()
        self.over.set()


def _write(transport: asyncio.SubprocessTransport, text: bytes) -> None:
    stdin = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    stdin.write(text)  # a helper need not read what it does not want to know
    stdin.close()


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
