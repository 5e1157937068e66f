"""``python -m tests.chaos.run.buildkit_client SOCKET TAG < context.tar``: ``POST /build?version=2``, as docker 20 does.

The session is a connection that ``POST /session`` hands over, the context goes in a second ``POST /build``. Prints the
image's ID; what a failure is told in goes to stderr, and its code is what this program ends with.
"""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

import aiohttp

from sampan.build.protocols import Served
from sampan.client.builds.serving import serving

_ATTACHED_S: Final = 60.0


class ProgramError(Exception):
    """What to say and what to end with."""

    def __init__(self, said: str, code: int = 1) -> None:
        super().__init__(said)
        self.code = code


async def build(socket: str, tag: str, context: bytes) -> str:
    """Build ``context`` as ``tag`` and return the image's ID. Raises ProgramError, OSError."""
    attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def attach(headers: Sequence[tuple[str, str]], sent: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        reader, writer = await asyncio.open_unix_connection(socket)
        sending = asyncio.create_task(_send(sent, writer))
        try:
            asked = [("Host", "docker"), ("Connection", "Upgrade"), ("Upgrade", "h2c"), *headers]
            lines = "".join(f"{name}: {value}\r\n" for name, value in asked)
            writer.write(f"POST /session HTTP/1.1\r\n{lines}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.split()[1] != "101":
                raise ProgramError(f"the session was refused: {head}")
            attached.set_result(None)
            while data := await reader.read(1 << 16):
                yield data
        except (OSError, asyncio.IncompleteReadError, ProgramError) as error:
            if not attached.done():
                attached.set_exception(error)
        finally:
            sending.cancel()
            writer.close()

    session, name = secrets.token_hex(12), secrets.token_hex(12)
    connector = aiohttp.UnixConnector(socket, force_close=True)
    async with (
        serving(attach, session, Served()),
        aiohttp.ClientSession("http://docker", connector=connector, timeout=aiohttp.ClientTimeout()) as client,
    ):
        async with asyncio.timeout(_ATTACHED_S):
            await attached
        upload = asyncio.create_task(_upload(client, name, context))
        try:
            asked = {"version": "2", "remote": "upload-request", "session": session, "buildid": name, "t": tag}
            return await _solve(client, asked)
        finally:
            upload.cancel()
            await asyncio.wait({upload})


async def _send(pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()


async def _upload(client: aiohttp.ClientSession, name: str, context: bytes) -> None:
    with suppress(aiohttp.ClientError):  # the build's own answer says what there is to say
        async with client.post("/build", params={"buildid": f"upload-request:{name}"}, data=context) as response:
            await response.read()


async def _solve(client: aiohttp.ClientSession, asked: dict[str, str]) -> str:
    image = ""
    async with client.post("/build", params=asked) as response:
        if response.status != 200:
            raise ProgramError(f"received {response.status}: {await response.text()}")
        async for line in response.content:
            told = json.loads(line)
            if "errorDetail" in told:
                raise ProgramError(told["error"], told["errorDetail"].get("code", 1))
            if told.get("id") == "moby.image.id":
                image = told["aux"]["ID"]
    if not image:
        raise ProgramError("unexpected EOF: the build has no result")
    return image


def main() -> int:
    """Build as asked for."""
    try:
        print(asyncio.run(build(sys.argv[1], sys.argv[2], sys.stdin.buffer.read())))
    except ProgramError as error:
        print(error, file=sys.stderr)
        return error.code
    except (OSError, EOFError, aiohttp.ClientError, TimeoutError) as error:
        print(f"error during connect: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
