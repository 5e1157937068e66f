"""Files that clients upload on their sessions."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from buildd.files.index import Index
from buildd.llb.ops import SourceOp
from buildd.protocol import Directory
from buildd.session.clients import Clients
from buildd.session.protocol import SessionInfo
from buildd.sources.uploads import UploadSource
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.unit.buildd.sources.clients import FakeContext

OP = SourceOp("http://buildkit-session/key", {"http.filename": "context"})


class Uploading(FakeSession):
    """A client that sends a piece, and another one when it is to."""

    def __init__(self) -> None:
        super().__init__(SessionInfo("s1"))
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def pull_upload(self, url: str) -> AsyncGenerator[bytes, None]:
        yield b"some"
        self.begun.set()
        await self.go_on.wait()
        yield b" more"


@pytest.fixture
def client() -> Uploading:
    return Uploading()


@pytest.fixture
def source(client: Uploading, tmp_path: Path) -> UploadSource:
    return UploadSource(Clients(FakeSessions(client)), tmp_path)


async def test_what_is_uploaded_goes_with_the_build_and_so_does_what_is_known_of_it(
    client: Uploading, source: UploadSource, tmp_path: Path
) -> None:
    client.go_on.set()
    async with FakeContext("s1") as context:
        pinned = await source.pin(OP, context)
        output = await source.fetch(OP, pinned, context)
        assert isinstance(output, Directory)
        assert (output.path / "context").read_bytes() == b"some more"
        index = Index.of(output.path)
        index.reader(lambda *_: b"d" * 32)(0, "context", (output.path / "context").stat())
        index.save(whole=True)
    assert list(tmp_path.iterdir()) == []


async def test_an_upload_that_is_cancelled_leaves_nothing(
    client: Uploading, source: UploadSource, tmp_path: Path
) -> None:
    async with FakeContext("s1") as context:
        running = asyncio.create_task(source.pin(OP, context))
        await client.begun.wait()
        running.cancel()
        await asyncio.wait({running})
    assert list(tmp_path.iterdir()) == []
