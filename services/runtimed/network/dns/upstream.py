"""Pass a question on to a name server that knows more."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sampan.sys import netns
from sampan.sys.netns import in_own_thread

TIMEOUT_S: Final = 4.0  # for one server; clients wait 5 s before they ask again
PORT: Final = 53
_MAX_BYTES: Final = 65535
_SIZE: Final = struct.Struct("!H")  # before each message on a stream


async def exchange(message: bytes, servers: Sequence[str], *, stream: bool, namespace: Path | None) -> bytes | None:
    """Return the answer of the first server that gives one; None if none does.

    Args:
        message: the question, passed on as it is.
        servers: addresses, in the order to ask.
        stream: ask over TCP.
        namespace: from where to ask; None: from the host.
    """
    for server in servers:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await _ask(message, server, stream=stream, namespace=namespace)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            continue  # the next one may be well
    return None


async def _ask(message: bytes, server: str, *, stream: bool, namespace: Path | None) -> bytes:
    address, _, scope = server.partition("%")
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    target: tuple[str, int] | tuple[str, int, int, int] = (address, PORT)
    if scope:
        target = (address, PORT, 0, socket.if_nametoindex(scope))

    def open_socket() -> socket.socket:
        if namespace is not None:
            netns.enter(namespace)
        return socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    # A socket of its own for each question: its port is one more thing that a forged answer would have to guess.
    sock = open_socket() if namespace is None else await in_own_thread(open_socket, "dns-upstream")
    with sock:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, target)
        if stream:
            return await _ask_stream(sock, message)
        await loop.sock_sendall(sock, message)
        while True:
            answer = await loop.sock_recv(sock, _MAX_BYTES)
            if answer[:2] == message[:2]:
                return answer


async def _ask_stream(sock: socket.socket, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        writer.write(_SIZE.pack(len(message)) + message)
        return await read_message(reader)
    finally:
        writer.close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Read one message from a stream.

    Raises:
        asyncio.IncompleteReadError: it ends before.
    """
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return await reader.readexactly(size)


def frame(message: bytes) -> bytes:
    """Return a message as it travels on a stream."""
    return _SIZE.pack(len(message)) + message
