"""A credential helper: a program ``docker-credential-<name>`` that keeps passwords for registries.

It is started for each question, with a verb (get, store, erase) as its argument, and answers in JSON on its output. On
failure its output is what is wrong; what it writes to standard error goes to the user.

Reference: https://github.com/docker/docker-credential-helpers#development
"""

import asyncio
import contextlib
import json
from typing import Final

from sampan.api.image.v1 import images_pb2 as pb
from sampan.errors import NotFoundError, UnauthenticatedError

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

    async def get(self, key: str) -> pb.Credentials | None:
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
            return pb.Credentials(identity_token=secret)
        return pb.Credentials(username=username, password=secret)

    async def store(self, key: str, credentials: pb.Credentials) -> None:
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
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(self.program, verb, stdin=pipe, stdout=pipe)
        except FileNotFoundError as error:
            raise NotFoundError(f"credential helper {self.program} is not in $PATH") from error
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UnauthenticatedError(f"credential helper {self.program} cannot be run: {why}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                output = await _talk(process, text.encode())
                code = await process.wait() if len(output) <= _MAX_ANSWER_BYTES else 0
        except TimeoutError as error:
            raise UnauthenticatedError(
                f"{self.program} {verb} did not answer within {self._timeout_s:g} seconds"
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if len(output) > _MAX_ANSWER_BYTES:
            raise UnauthenticatedError(f"{self.program} {verb}: the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        return code, output.decode("utf-8", "replace")


async def _talk(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    """Write ``text`` and return what is answered, one byte more than is taken at most."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    # A helper need not read what it does not want to know.
    with contextlib.suppress(ConnectionError):
        stdin.write(text)
        await stdin.drain()
    stdin.close()
    output = b""
    while len(output) <= _MAX_ANSWER_BYTES and (piece := await stdout.read(_MAX_ANSWER_BYTES + 1)):
        output += piece
    return output


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
