"""Files of blobs from imaged to the snapshotter, and pipes the other way."""

import asyncio
import errno
import fcntl
import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from imaged.content.fd_passing import FdServer
from imaged.content.ingest import Ingest
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from sampan.wire.channel import open_channel
from snapshotter.wire.content_client import ContentClient
from tests.support.tools import need
from tests.unit.imaged.parts import Parts

HELLO = Digest.of(b"hello")


@pytest.fixture
async def files(parts: Parts, tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "files.sock"
    path.write_bytes(b"")  # what a killed process left
    fd_server = FdServer(path, parts.content, parts.ingests)
    yield path
    await fd_server.close()
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


async def send(asker: socket.socket, files: Path, ref: str, kind: str = "write") -> int:
    """Send the reading end of a new pipe to be written to ``ref``; return the other end."""
    reading, writing = os.pipe()
    asker.setblocking(False)
    await asyncio.get_running_loop().sock_connect(asker, str(files))
    socket.send_fds(asker, [f"{kind} {ref}".encode()], [reading])
    os.close(reading)
    return writing


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def answer_of(asker: socket.socket) -> bytes:
    async with asyncio.timeout(60):
        return await asyncio.get_running_loop().sock_recv(asker, 1024)


async def test_what_comes_out_of_a_pipe_is_written_and_hashed(parts: Parts, files: Path) -> None:
    pieces = [bytes([number]) * 300_000 for number in range(100)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        with open(await send(asker, files, "piped"), "wb", buffering=0) as pipe:
            for piece in pieces:
                await asyncio.to_thread(pipe.write, piece)
        assert await answer_of(asker) == b"taken"
    async with parts.ingests.open("piped") as ingest:
        whole = b"".join(pieces)
        assert (ingest.offset, ingest.digest) == (len(whole), Digest.of(whole))
        assert await parts.ingests.commit(ingest, len(whole), None) == Digest.of(whole)
    assert parts.content.path(Digest.of(whole)).read_bytes() == whole


async def test_a_large_blob_that_nobody_reads_soon_does_not_stay_in_memory(
    parts: Parts, files: Path, tmp_path: Path
) -> None:
    need("fincore")
    where = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], check=True, capture_output=True, text=True).stdout
    if where.strip() == "tmpfs":
        pytest.skip("files of a tmpfs are nowhere but in memory")
    large, read, small = os.urandom(30 << 20), os.urandom(30 << 20), b"small" * 1000
    for ref, kind, whole in (("large", "pass", large), ("read", "write", read), ("small", "pass", small)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
            with open(await send(asker, files, ref, kind), "wb") as pipe:
                await asyncio.to_thread(pipe.write, whole)
            assert await answer_of(asker) == b"taken"
            async with parts.ingests.open(ref) as ingest:
                assert await parts.ingests.commit(ingest, len(whole), None) == Digest.of(whole)
    paths = [str(parts.content.path(Digest.of(whole))) for whole in (large, read, small)]
    command = ["fincore", "--bytes", "--noheadings", "--raw", "--output", "RES", *paths]
    resident = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(resident[0]) < 1 << 20  # the kernel may be at a page
    assert int(resident[1]) >= len(read)
    assert int(resident[2]) >= len(small)
    assert Path(paths[0]).read_bytes() == large


async def test_empty_pipe_is_an_empty_write(parts: Parts, files: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        os.close(await send(asker, files, "empty"))
        assert await answer_of(asker) == b"taken"
    assert parts.ingests.status("empty").offset == 0


async def test_write_whose_sender_has_gone_is_forgotten(parts: Parts, files: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        writing = await send(asker, files, "left")
        os.write(writing, b"half")
        await until(lambda: bool(parts.ingests.files()) and parts.ingests.status("left").offset == 4)
    os.close(writing)
    await until(lambda: not parts.ingests.files())
    with pytest.raises(NotFoundError):
        parts.ingests.status("left")


async def test_full_disk_is_told_to_whoever_sent_the_pipe(
    parts: Parts, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Ingest, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Ingest, "write_now", full)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        writing = await send(asker, files, "full")
        os.write(writing, b"much")
        answer = await answer_of(asker)
        os.close(writing)
    assert answer.startswith(b"full ")
    assert b"no space left on device" in answer
    await parts.ingests.abort("full")


async def test_write_is_given_up_when_the_service_ends(parts: Parts, tmp_path: Path) -> None:
    fd_server = FdServer(tmp_path / "ending.sock", parts.content, parts.ingests)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        writing = await send(asker, tmp_path / "ending.sock", "ending")
        os.write(writing, b"half")
        await until(lambda: bool(parts.ingests.files()))
        async with asyncio.timeout(60):
            await fd_server.close()
        assert await answer_of(asker) == b""
        os.close(writing)
