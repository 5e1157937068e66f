"""Open files of blobs, from imaged to the snapshotter."""

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imaged.handout import Handout
from sampan.oci.digest import Digest
from sampan.wire.channel import open_channel
from snapshotter.contentclient import ContentClient
from tests.unit.imaged.parts import Parts

HELLO = Digest.of(b"hello")


@pytest.fixture
async def files(parts: Parts, tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "files.sock"
    path.write_bytes(b"")  # what a killed process left
    handout = Handout(path, parts.content)
    yield path
    await handout.close()
    assert not path.exists()


@pytest.fixture
async def client(files: Path, tmp_path: Path) -> AsyncIterator[ContentClient]:
    async with open_channel(tmp_path / "nobody.sock") as channel:
        yield ContentClient(channel, files)


async def test_a_blobs_file_is_open_for_reading_alone_and_outlives_the_blob(
    parts: Parts, client: ContentClient
) -> None:
    lease = await parts.leases.begin()
    await parts.content.put(b"hello", "text/plain", lease)
    fd = await client.open(HELLO)
    assert fd is not None
    try:
        await parts.leases.release(lease)
        assert parts.blobs() == set()
        assert os.read(fd, 10) == b"hello"
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


async def test_what_is_not_there_is_not_handed_out(parts: Parts, client: ContentClient) -> None:
    assert await client.open(HELLO) is None
    await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    parts.content.path(HELLO).unlink()
    assert await client.open(HELLO) is None
    stray = Digest.of(b"stray")
    parts.content.path(stray).write_bytes(b"stray")
    assert await client.open(stray) is None


async def test_without_a_store_that_hands_out_files_there_is_none(tmp_path: Path) -> None:
    async with open_channel(tmp_path / "nobody.sock") as channel:
        assert await ContentClient(channel).open(HELLO) is None
        assert await ContentClient(channel, tmp_path / "nothing.sock").open(HELLO) is None


@pytest.mark.parametrize("question", [b"", b"hello", b"\xff" * 200, b"../../metadata.db"])
async def test_nonsense_is_answered_with_nothing_and_harms_nobody(
    parts: Parts, client: ContentClient, files: Path, question: bytes
) -> None:
    await parts.content.put(b"hello", "text/plain", await parts.leases.begin())
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.setblocking(False)
        await loop.sock_connect(asker, str(files))
        await loop.sock_sendall(asker, question)
        if question:
            assert await loop.sock_recv(asker, 100) == b""
    fd = await client.open(HELLO)
    assert fd is not None
    os.close(fd)


async def test_only_its_own_user_may_ask(files: Path, client: ContentClient) -> None:
    assert stat.S_IMODE(files.stat().st_mode) == 0o700 & ~0o077
