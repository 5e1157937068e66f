"""A data root that is on an overlay itself, as in a container: no other can be made there, so snapshots are copies."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.sys.mounts import mount
from snapshotter.drivers import whiteouts
from tests.fakes.content import FakeContent
from tests.support.images import Entry, directory, tar
from tests.support.snapshotter import Kit, Parts, local, names, shown
from tests.support.tools import need_root, unmount

pytestmark = pytest.mark.root


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    need_root()
    for name in ("low", "high", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/low,upperdir={tmp_path}/high,workdir={tmp_path}/work"
    mount("overlay", str(tmp_path / "merged"), "overlay", 0, options)
    try:
        yield tmp_path / "merged"
    finally:
        unmount(tmp_path / "merged")


@pytest.fixture
async def parts(overlay: Path) -> AsyncIterator[Parts]:
    async with local(overlay / "root", "auto", FakeContent()) as parts:
        yield parts


async def test_copies_are_made_and_it_is_said_why(parts: Parts) -> None:
    report = await parts.layers.drivers()
    assert report.driver == "native"
    assert report.backing_filesystem == "overlay"
    reasons = {driver.name: driver.reason for driver in report.drivers if not driver.usable}
    assert reasons.keys() == {"erofs", "overlayfs"}
    assert all("trial mount failed" in reason for reason in reasons.values())


async def test_layers_hide_what_is_below_them(parts: Parts) -> None:
    base = tar(directory("d"), Entry("d/kept", b"1"), Entry("d/gone", b"1"), directory("o"), Entry("o/below", b"1"),
               directory("r"), Entry("r/below", b"1"))  # fmt: skip
    top = tar(Entry("d/.wh.gone"), Entry("o/.wh..wh..opq"), Entry("o/above", b"2"), Entry(".wh.r"), directory("r"))
    chain = await Kit(parts).image(base, top)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert names(tree) == ["d", "d/kept", "o", "o/above", "r"]
        assert os.listxattr(tree / "o") == []


async def test_what_a_container_removed_is_in_its_layer(parts: Parts) -> None:
    kit = Kit(parts)
    chain = await kit.image(tar(Entry("a", b"1"), Entry("b", b"1")), tar(Entry(".wh.a"), Entry("c", b"1")))
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        (tree / "b").unlink()
        (tree / "new").touch()
    changes = await parts.layers.changes("web")
    assert [(change.path, change.kind.name) for change in changes] == [
        (b"b", "DELETED"),
        (b"new", "ADDED"),
    ]


def test_a_kernel_that_knows_no_nested_marks_is_given_another(overlay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Before 6.7 the attribute is refused with EOPNOTSUPP, as this one is by any kernel.
    monkeypatch.setattr(whiteouts, "OPAQUE_XATTR", "unknown.opaque")
    fd = os.open(overlay, os.O_RDONLY)
    try:
        assert not whiteouts.is_opaque(fd)
        whiteouts.make_opaque(fd)
        assert whiteouts.is_opaque(fd)
        assert all(whiteouts.is_mark(name) for name in os.listxattr(fd))
    finally:
        os.close(fd)
