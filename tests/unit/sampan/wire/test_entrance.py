"""A socket that one process leaves to the next, with clients that come at any time."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.wire.entrance import Entrance, Serve


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """The supervisor's."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        yield made


def answering(text: bytes) -> Serve:
    """Say ``text`` to whoever says something, until they leave."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(100):
                writer.write(text)
                await writer.drain()
        finally:
            writer.close()

    return serve


async def test_who_comes_while_nobody_lets_them_in_waits(listener: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(listener.getsockname())
    writer.write(b"hello")
    async with Entrance(listener.dup()).listening(answering(b"first")):
        assert await reader.read(100) == b"first"
        writer.close()


async def test_what_comes_after_shutting_is_the_next_one_s_and_what_came_before_goes_on(
    listener: socket.socket,
) -> None:
    first, second = Entrance(listener.dup()), Entrance(listener.dup())
    async with first.listening(answering(b"first")):
        reader, writer = await asyncio.open_unix_connection(listener.getsockname())
        writer.write(b"hello")
        assert await reader.read(100) == b"first"
        assert first.is_used
        first.shut()
        later_reader, later = await asyncio.open_unix_connection(listener.getsockname())
        later.write(b"hello")
        async with second.listening(answering(b"second")):
            assert await later_reader.read(100) == b"second"
            later.close()
        writer.write(b"hello")
        assert await reader.read(100) == b"first"
        writer.close()
        assert await reader.read() == b""
    assert not first.is_used


async def test_who_is_in_is_let_go_at_the_end_and_the_socket_stays(listener: socket.socket) -> None:
    entrance = Entrance(listener.dup())
    async with entrance.listening(answering(b"first")):
        reader, writer = await asyncio.open_unix_connection(listener.getsockname())
        writer.write(b"hello")
        assert await reader.read(100) == b"first"
    assert await reader.read() == b""
    writer.close()
    assert not entrance.is_used
    _, other = await asyncio.open_unix_connection(listener.getsockname())
    other.close()


async def test_a_client_that_has_changed_its_mind_is_nobody(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as hasty:
        hasty.connect(listener.getsockname())
    entrance = Entrance(listener.dup())
    async with entrance.listening(answering(b"first")):
        reader, writer = await asyncio.open_unix_connection(listener.getsockname())
        writer.write(b"hello")
        assert await reader.read(100) == b"first"
        writer.close()
        assert await reader.read() == b""
