"""What ``resource.protocols.Archives`` promises, whoever keeps it."""

import asyncio
import io
import socket
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

import pytest

from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan.handing.chunks import ChunkedReader
from sampan.resource.container import PathStat
from sampan.resource.protocols import Archives
from sampan.resource.streams import OpenBody


def tar(**files: bytes | None) -> bytes:
    """Return an archive of files by name, None for a directory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o644 if data is not None else 0o755
            member.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
            member.size = len(data or b"")
            archive.addfile(member, io.BytesIO(data or b""))
    return packed.getvalue()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 700):
        yield data[start : start + 700]


async def read(archives: Archives, container: str, path: str) -> tuple[PathStat, dict[str, bytes | None]]:
    """Return what a path is, and its archive's members: None is a directory."""
    async with aclosing(archives.read(container, path)) as parts:
        found = await anext(parts)
        assert isinstance(found, PathStat)
        data = b""
        async for part in parts:
            assert isinstance(part, bytes)
            data += part
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {each.name.rstrip("/"): archive.extractfile(each) for each in archive}
        return found, {name: file.read() if file else None for name, file in members.items()}


async def read_volume(archives: Archives, name: str) -> dict[str, bytes]:
    """Return the files of a volume by name."""
    async with aclosing(archives.read_volume(name)) as pieces:
        data = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {each.name.removeprefix("./"): archive.extractfile(each) for each in archive if each.isfile()}
        return {name: file.read() for name, file in members.items() if file is not None}


@contextmanager
def socket_of(data: bytes) -> Iterator[tuple[socket.socket, bytes]]:
    """A socket on which ``data`` comes in chunks, and its beginning, which has been read already."""
    sent = b"".join(b"%x\r\n%b\r\n" % (len(some), some) for some in (data[:900], data[900:], b""))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(sent))
        ours.sendall(sent[500:])
        yield theirs, sent[:500]


def _all(body: socket.socket) -> bytes:
    reader, whole = ChunkedReader(body.fileno()), bytearray()
    while piece := reader.read(1 << 20):
        whole += piece
    return bytes(whole)


class ArchivesContract:
    """Subclass with fixtures ``archives``, ``container``, one that has ``/tmp`` with nothing in it, and ``volume``."""

    promises: tuple[type, ...] = (Archives,)

    async def test_what_is_written_is_read(self, archives: Archives, container: str) -> None:
        await archives.write(container, "/tmp", pieces(tar(d=None, **{"d/f": b"file", "top": b"1" * 5000})))
        found, members = await read(archives, container, "/tmp/d")
        assert (found.name, stat.S_ISDIR(found.mode)) == ("d", True)
        assert members == {"d": None, "d/f": b"file"}
        found, members = await read(archives, container, "/tmp/top")
        assert (found.name, found.size_bytes, stat.S_ISREG(found.mode)) == ("top", 5000, True)
        assert members == {"top": b"1" * 5000}
        assert await archives.stat(container, "/tmp/top") == found

    async def test_what_is_on_a_clients_socket_is_written_and_read(self, archives: Archives, container: str) -> None:
        if not archives.takes_descriptors:
            return
        with socket_of(tar(d=None, **{"d/f": b"file" * 20_000})) as (body, begun):
            await archives.write(container, "/tmp", OpenBody(body.fileno(), begun))
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setblocking(False)

        async def outlet() -> int:
            return theirs.fileno()

        with ours, theirs:
            reading = asyncio.create_task(asyncio.to_thread(_all, ours))
            async with aclosing(archives.read(container, "/tmp/d", outlet)) as parts:
                found = [part async for part in parts]
            theirs.setblocking(True)
            theirs.sendall(b"0\r\n\r\n")
            data = await reading
        assert [isinstance(part, PathStat) for part in found] == [True]
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = {each.name.rstrip("/"): archive.extractfile(each) for each in archive}
            assert {name: file.read() if file else None for name, file in members.items()} == {
                "d": None, "d/f": b"file" * 20_000,
            }  # fmt: skip

    async def test_a_socket_with_no_archive_is_refused(self, archives: Archives, container: str) -> None:
        if not archives.takes_descriptors:
            return
        for path, error in (("/tmp", InvalidArgumentError), ("/tmp/nosuch", NotFoundError)):
            with socket_of(b"no archive" * 100) as (body, begun), pytest.raises(error):
                await archives.write(container, path, OpenBody(body.fileno(), begun))

    async def test_a_file_is_written_over(self, archives: Archives, container: str) -> None:
        for data in (b"one", b"other"):
            await archives.write(container, "/tmp", pieces(tar(f=data)))
        assert (await read(archives, container, "/tmp/f"))[1] == {"f": b"other"}

    async def test_what_is_not_there_is_not_found(self, archives: Archives, container: str) -> None:
        with pytest.raises(NotFoundError, match="No such container: nosuch"):
            await archives.stat("nosuch", "/tmp")
        with pytest.raises(NotFoundError):
            await archives.stat(container, "/tmp/nosuch")
        with pytest.raises(NotFoundError):
            await read(archives, container, "/tmp/nosuch")
        with pytest.raises(NotFoundError):
            await archives.write(container, "/tmp/nosuch", pieces(tar(f=b"")))

    async def test_a_volume_is_read_and_written_as_a_whole(self, archives: Archives, volume: str) -> None:
        assert await read_volume(archives, volume) == {}
        await archives.write_volume(volume, pieces(tar(d=None, **{"d/f": b"file"})))
        await archives.write_volume(volume, pieces(tar(top=b"1" * 5000)))
        assert await read_volume(archives, volume) == {"d/f": b"file", "top": b"1" * 5000}

    async def test_a_volume_that_is_not_there_is_not_found(self, archives: Archives, volume: str) -> None:
        with pytest.raises(NotFoundError, match="get nosuch: no such volume"):
            await read_volume(archives, "nosuch")
        with pytest.raises(NotFoundError, match="get nosuch: no such volume"):
            await archives.write_volume("nosuch", pieces(tar(f=b"")))
        with pytest.raises(InvalidArgumentError):
            await archives.write_volume(volume, pieces(b"no archive" * 100))

    async def test_kinds_are_kept_if_that_is_asked_for(self, archives: Archives, container: str) -> None:
        await archives.write(container, "/tmp", pieces(tar(d=None, f=b"file")))
        for wrong in (tar(d=b"file"), tar(f=None)):
            with pytest.raises(SampanError, match="overwrite"):
                await archives.write(container, "/tmp", pieces(wrong), keep_kinds=True)

    async def test_what_is_no_archive_is_refused(self, archives: Archives, container: str) -> None:
        with pytest.raises(InvalidArgumentError):
            await archives.write(container, "/tmp", pieces(b"no archive" * 100))
