"""Blobs that are being downloaded: their files, and how long these stay."""

import asyncio
import os
from pathlib import Path

import pytest

from imaged.content import partial as partial_module
from imaged.content.partial import Partials
from imaged.content.ranges import Range
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from tests.support.tools import eventually

BYTES = os.urandom(300_000)
BLOB = Descriptor(OCI_LAYER, Digest.of(BYTES), len(BYTES))


async def no_room() -> bool:
    return False


@pytest.fixture
async def partials(tmp_path: Path) -> Partials:
    partials = Partials(tmp_path, 3600)
    await partials.recover()
    return partials


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
async def test_digest_is_right_in_whatever_order_bytes_come(partials: Partials, order: tuple[int, ...]) -> None:
    async with partials.open(BLOB, no_room) as partial:
        for part in order:
            await partial.write(part * 100_000, BYTES[part * 100_000 : (part + 1) * 100_000])
        assert partial.missing() == []
        assert await partial.digest() == BLOB.digest
        partial.discard()


async def test_writers_at_the_same_time_do_not_disturb_each_other(
    partials: Partials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_module, "_FLUSH_BYTES", 10_000)
    async with partials.open(BLOB, no_room) as partial:
        starts = range(0, len(BYTES), 1000)
        await asyncio.gather(*(partial.write(start, BYTES[start : start + 1000]) for start in reversed(starts)))
        assert await partial.digest() == BLOB.digest


async def test_what_is_left_is_found_again(partials: Partials) -> None:
    async with partials.open(BLOB, no_room) as partial:
        await partial.write(50, BYTES[50:100])
    async with partials.open(BLOB, no_room) as partial:
        assert partial.missing() == [Range(0, 50), Range(100, len(BYTES))]
        assert partial.answers == 1
        await partial.clear()
        assert partial.missing() == [Range(0, len(BYTES))]
        assert partial.answers == 0


async def test_ranges_beyond_the_file_are_not_believed(partials: Partials, tmp_path: Path) -> None:
    async with partials.open(BLOB, no_room) as partial:
        await partial.write(0, BYTES[:1000])
    os.truncate(tmp_path / "partials" / BLOB.digest.hex, 500)
    async with partials.open(BLOB, no_room) as partial:
        assert partial.size == 0


async def test_nothing_written_leaves_nothing(partials: Partials, tmp_path: Path) -> None:
    async with partials.open(BLOB, no_room):
        pass
    assert list((tmp_path / "partials").iterdir()) == []


async def test_start_removes_what_is_too_old_and_what_is_no_pair(tmp_path: Path) -> None:
    directory = tmp_path / "partials"
    directory.mkdir()
    for name in ("old", "old.ranges", "new", "new.ranges", "lone", "other.ranges", "new.placed"):
        (directory / name).write_text("")
        os.utime(directory / name, (1000, 1000) if "old" in name else (5000, 5000))
    await Partials(tmp_path, 3600, lambda: 5000).recover()
    assert {path.name for path in directory.iterdir()} == {"new", "new.ranges"}


async def test_start_removes_what_became_a_blob(partials: Partials, tmp_path: Path) -> None:
    async with partials.open(BLOB, no_room) as partial:
        await partial.write(0, BYTES)
    os.link(tmp_path / "partials" / BLOB.digest.hex, tmp_path / "blob")
    await partials.recover()
    assert list((tmp_path / "partials").iterdir()) == []


async def test_what_nobody_comes_back_for_goes_while_the_process_runs(tmp_path: Path) -> None:
    partials = Partials(tmp_path, 0.01)
    await partials.recover()
    async with partials:
        async with partials.open(BLOB, no_room) as partial:
            await partial.write(0, BYTES[:10])
        directory = tmp_path / "partials"
        await asyncio.to_thread(eventually, lambda: not list(directory.iterdir()), "partial removed", 5)


async def test_what_is_open_stays_when_room_is_made(partials: Partials, tmp_path: Path) -> None:
    other = Descriptor(OCI_LAYER, Digest.of(b"other"), 5)
    async with partials.open(other, no_room) as partial:
        await partial.write(0, b"o")
    async with partials.open(BLOB, no_room) as partial:
        await partial.write(0, BYTES[:10])
        assert await partials.reclaim()
        assert not await partials.reclaim()
    assert {path.name for path in (tmp_path / "partials").iterdir()} == {BLOB.digest.hex, f"{BLOB.digest.hex}.ranges"}
