from pathlib import Path
from typing import cast

import pytest

from buildd.llb.ops import SourceOp
from buildd.protocol import FileWorker
from buildd.session.protocol import SessionInfo
from buildd.sources.sources import Stores, open_sources
from sampan.errors import InvalidArgumentError
from sampan.oci.platform import Platform
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.buildd import FakeKeeper
from tests.unit.buildd.sources.clients import FakeContext, FlattenedFiles
from tests.unit.buildd.sources.imaged import FakeImaged

AMD64 = Platform("linux", "amd64")


async def test_sources_are_told_apart_by_scheme(tmp_path: Path) -> None:
    imaged = FakeImaged()
    (tmp_path / "scratch/left").mkdir(parents=True)
    session = FakeSession(SessionInfo("s1"), {"context": {"a": "A"}})
    stores = Stores(imaged, imaged, imaged)  # type: ignore[arg-type]
    sessions = FakeSessions(session)
    async with (
        open_sources(tmp_path, stores, cast("FileWorker", FlattenedFiles()), sessions, FakeKeeper()) as (
            sources,
            (directories, downloads, held),
        ),
        FakeContext("s1") as context,
    ):
        assert not (tmp_path / "scratch/left").exists()
        for identifier in ("local://context", "docker-image://base:1"):
            op = SourceOp(identifier)
            await sources.fetch(op, await sources.pin(op, AMD64, context), AMD64, context)
        assert len(await directories.records()) == 1
        assert await downloads.records() == []
        (record,) = await held.records()
        assert record.in_use
        assert await held.remove([record.id]) == []
        commit = "0" * 40
        assert (await sources.pin(SourceOp(f"git://x/y#{commit}"), AMD64, context)).pin == commit
        for identifier in ("ftp://x", "x", "blob://x", ""):
            with pytest.raises(InvalidArgumentError, match=r"unknown source .*: expected one of docker-image, local,"):
                await sources.pin(SourceOp(identifier), AMD64, context)
    assert imaged.leases == {"lease-1": "released"}
