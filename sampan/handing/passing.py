"""Descriptors that come with messages of unix sockets: SCM_RIGHTS of unix(7)."""

import array
import asyncio
import socket


def receive(connection: socket.socket, most_bytes: int, most: int) -> tuple[bytes, list[int]]:
    """Return a message, and the descriptors that came with it: at most ``most``, what is beyond that is closed.

    They are closed in programs that are started: ``socket.recv_fds`` of Python 3.11 passes its flags on to nobody, so
    each of these would have them. Raises OSError as recvmsg(2) does.
    """
    fds = array.array("i")
    room = socket.CMSG_LEN(most * fds.itemsize)
    data, ancillary, _, _ = connection.recvmsg(most_bytes, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


async def readable(connection: socket.socket | int) -> None:
    """Wait until there is something to read, or the end of it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
