"""Descriptors from one process to another."""

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.errors import ServiceGoneError
from sampan.handing.desk import Desk, handed, new_name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desk.sock"


@pytest.fixture
async def desk(path: Path) -> AsyncIterator[Desk]:
    path.write_bytes(b"")  # what a killed process left
    desk = Desk(path)
    yield desk
    await desk.close()
    assert not path.exists()


async def closed(fd: int) -> None:
    """Return when the other end of a socket is closed by all who had it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(60):
            await ended.wait()
    finally:
        loop.remove_reader(fd)
    assert os.read(fd, 1) == b""


async def test_a_descriptor_is_taken_by_its_name_whoever_comes_first(desk: Desk, path: Path) -> None:
    for given_first in (True, False):
        ours, theirs = socket.socketpair()
        name = new_name()

        async def take(name: str = name) -> None:
            async with desk.taken(name) as fd:
                assert fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
                os.write(fd, b"taken")

        with ours:
            taker = asyncio.create_task(take())
            if not given_first:
                await asyncio.sleep(0)
            async with handed(path, name, theirs.fileno()):
                theirs.close()
                async with asyncio.timeout(60):
                    await taker
            assert ours.recv(10) == b"taken"
            await closed(ours.fileno())


async def test_what_nobody_takes_is_closed_with_its_giver(desk: Desk, path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with handed(path, new_name(), theirs.fileno()):
            theirs.close()
        await closed(ours.fileno())


async def test_who_stops_waiting_leaves_nothing(desk: Desk, path: Path) -> None:
    name = new_name()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), desk.taken(name):
            raise AssertionError("there is none")
    ours, theirs = socket.socketpair()
    with ours:
        async with handed(path, name, theirs.fileno()):
            theirs.close()
            async with desk.taken(name) as fd:
                os.write(fd, b"x")
        assert ours.recv(10) == b"x"
        await closed(ours.fileno())


async def test_a_second_descriptor_of_one_name_is_closed(desk: Desk, path: Path) -> None:
    name = new_name()
    pairs = [socket.socketpair(), socket.socketpair()]
    with pairs[0][0] as first, pairs[1][0] as second:
        async with handed(path, name, pairs[0][1].fileno()):
            pairs[0][1].close()
            async with handed(path, name, pairs[1][1].fileno()):
                pairs[1][1].close()
                await closed(second.fileno())
            async with desk.taken(name) as fd:
                os.write(fd, b"first")
        assert first.recv(10) == b"first"


async def test_only_its_owner_comes_to_the_desk(desk: Desk, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_without_a_desk_the_service_is_away(tmp_path: Path) -> None:
    with pytest.raises(ServiceGoneError, match="nobody takes descriptors"):
        async with handed(tmp_path / "nosuch", new_name(), 0):
            raise AssertionError("there is none")
