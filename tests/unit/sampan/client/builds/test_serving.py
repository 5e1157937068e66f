"""A session of one's own, as the builder uses it."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from buildd.session.protocol import Credentials, LocalFiles, SessionInfo
from buildd.wire.session.session import ClientSession, ServedSession
from sampan.build.protocols import Served, Sink
from sampan.client.builds.serving import serving
from sampan.errors import NotFoundError, RemoteError, UnavailableError
from tests.fakes.byte_stream import FakeByteStream

FILES = 3_000


@asynccontextmanager
async def attached(served: Served) -> AsyncIterator[ClientSession]:
    """Serve within, and yield the builder's side of it."""
    ours, theirs = FakeByteStream.pair(4)
    told: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()

    async def attach(headers: Sequence[tuple[str, str]], sent: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        told.set_result(frozenset(value for name, value in headers if name.endswith("grpc-method")))

        async def send() -> None:
            async for data in sent:
                await ours.write(data)

        sending = asyncio.create_task(send(), name="session's bytes")
        try:
            while data := await ours.read():
                yield data
        finally:
            sending.cancel()
            await asyncio.wait((sending,))

    async with serving(attach, "s1", served):
        session = ServedSession(theirs, SessionInfo("s1", "name", "key", await told))
        running = asyncio.create_task(session.run(), name="the builder's side")
        try:
            yield session.session
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    left = {task.get_name() for task in asyncio.all_tasks()} & {"carry session", "session's bytes", "front side"}
    assert left == set()


def many_files(root: Path) -> Path:
    for number in range(FILES):
        folder = root / f"{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_text(f"file {number}\n")
    (root / "big").write_bytes(os.urandom(5 << 20))
    (root / "link").symlink_to("big")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_trees_come_and_go(tmp_path: Path) -> None:
    context, copy, result = many_files(tmp_path / "context"), tmp_path / "copy", tmp_path / "result"
    copy.mkdir()
    served = Served(directories={"context": context}, outputs={"0": Sink(directory=result)})
    async with attached(served) as session:
        report = await session.sync(LocalFiles("context"), copy)
        assert report.files == FILES + 1
        assert await session.send_files(copy) > 5 << 20
        assert (await session.sync(LocalFiles("context"), copy)).bytes_sent == 0
    assert contents(copy) == contents(context) == contents(result)
    assert (result / "link").readlink() == Path("big")


async def test_a_file_goes_into_its_sink_and_an_upload_comes_once(tmp_path: Path) -> None:
    taken = bytearray()
    sent = os.urandom(3 << 20)

    async def take(pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            taken.extend(piece)

    async def upload() -> AsyncIterator[bytes]:
        yield sent

    async def once() -> AsyncIterator[bytes]:
        yield sent

    served = Served(uploads={"up": upload}, outputs={"1": Sink(write=take)})
    async with attached(served) as session:
        assert await session.send_file(once(), exporter="1") == len(sent)
        assert b"".join([piece async for piece in session.pull_upload("http://buildkit-session/up")]) == sent
        with pytest.raises(NotFoundError, match="no upload up"):
            [piece async for piece in session.pull_upload("http://buildkit-session/up")]
    assert bytes(taken) == sent


async def test_small_questions_are_answered_beside(tmp_path: Path) -> None:
    async def find(registry: str) -> tuple[str, str] | None:
        return ("user", "word") if registry == "registry.test" else None

    served = Served(credentials=find, secrets={"token": lambda: b"hidden"}, directories={"context": tmp_path})
    async with attached(served) as session:
        assert await session.credentials("registry.test") == Credentials("user", "word")
        assert await session.credentials("other.test") is None
        assert await session.secret("token") == b"hidden"


async def test_what_cannot_be_done_is_told_in_its_own_words(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (tmp_path / "file").write_text("no directory")
    served = Served(directories={"context": tmp_path}, outputs={"0": Sink(directory=tmp_path / "file" / "below")})
    async with attached(served) as session:
        with pytest.raises(NotFoundError, match='no access allowed to dir "other"'):
            await session.sync(LocalFiles("other"), into)
        with pytest.raises(RemoteError, match="Not a directory"):
            await session.send_files(into)
        with pytest.raises(NotFoundError, match="no output for export 7"):
            await session.send_files(into, exporter="7")


async def test_a_session_that_ends_ends_what_is_under_way(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        begun.set()
        yield b"first"
        await asyncio.Event().wait()

    async def pull(session: ClientSession) -> None:
        async for _ in session.pull_upload("http://buildkit-session/up"):
            pass

    async with attached(Served(uploads={"up": never})) as session:
        pulling = asyncio.create_task(pull(session))
        await begun.wait()
    with pytest.raises(UnavailableError):
        await pulling
