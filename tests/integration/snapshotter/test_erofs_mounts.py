"""Layers as mounted images: what is mounted when, by which way, and what becomes of it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import DataLossError, NotFoundError, UnavailableError, UnimplementedError
from sampan.service.set_aside import SetAside
from sampan.sys.mounts import MNT_DETACH, umount2
from snapshotter.drivers.erofs.driver import ErofsDriver
from snapshotter.drivers.erofs.mounts import ErofsMounts, Way
from snapshotter.layers.formats import LayerFormat
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Clock, Kit, local, names, shown, tar
from tests.support.tools import need_root

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    need_root()
    if "erofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")
    yield tmp_path / "root"
    for target in mounted(tmp_path):
        umount2(target, MNT_DETACH)


def mounted(below: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [target for target in (line.split(" ")[1] for line in lines) if target.startswith(f"{below}/")]


def loops_of(below: Path) -> str:
    listed = subprocess.run(["losetup", "--list", "--output", "BACK-FILE"], capture_output=True, text=True, check=True)
    return "\n".join(line for line in listed.stdout.splitlines() if str(below) in line)


@pytest.mark.parametrize("way", list(Way))
async def test_an_image_is_mounted_each_way(root: Path, way: Way) -> None:
    async with local(root, "erofs", FakeContent(), ways=(way,)) as parts:
        report = await parts.layers.drivers()
        assert report.drivers[0].reason == (
            f"the configuration asks for it; a trial mount of an EROFS image {way.value} works"
            + ("; directly from its file: the configuration forbids it" if way is Way.LOOP else "")
        )
        chain = await Kit(parts).image(tar(a="1"), tar(b="2"))
        assert mounted(root) == []
        with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
            assert names(tree) == ["a", "b"]
            (tree / "a").unlink()
        assert mounted(root) == [f"{root}/m/2", f"{root}/m/1"]
    assert mounted(root) == []
    assert loops_of(root) == ""


async def test_a_way_that_fails_leads_to_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    images = ErofsMounts(root / "m")
    real = ErofsDriver.__init__.__globals__["mount_erofs"]

    def mount_erofs(way: Way, image: Path, target: Path) -> None:
        if way is Way.FILE:
            raise OSError(22, "Invalid argument")
        real(way, image, target)

    monkeypatch.setattr("snapshotter.drivers.erofs.driver.mount_erofs", mount_erofs)
    assert await ErofsDriver(images).probe(root) == (
        "a trial mount of an EROFS image through a loop device works;"
        " directly from its file: a trial mount failed: Invalid argument"
    )
    assert images.usable
    assert list(root.glob("probe-*")) == []


async def test_without_a_way_the_driver_cannot_be_used(root: Path) -> None:
    root.mkdir()
    images = ErofsMounts(root / "m", ())
    with pytest.raises(UnimplementedError, match="forbids all ways"):
        await ErofsDriver(images).probe(root)
    assert not images.usable


async def test_a_layer_is_unmounted_when_it_is_removed_while_a_container_goes_on(root: Path) -> None:
    async with local(root, "erofs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
            await parts.snapshots.remove("web")
            await parts.layers.unstack([[chain]])
            assert list(parts.disk.layers.iterdir()) == []
            assert [target for target in mounted(root) if "/m/" in target] == []
            assert (tree / "a").read_text() == "1"
            assert [path.name for path in (root / "m").iterdir()] == ["of"]


async def test_a_start_takes_over_what_is_mounted_and_unmounts_what_is_not_its_own(root: Path) -> None:
    content, clock = FakeContent(), Clock()
    async with local(root, "erofs", content, clock) as parts:
        chain = await Kit(parts).image(tar(a="1"), tar(b="2"))
    images = ErofsMounts(root / "m")
    await ErofsDriver(images).probe(root)
    for number, shown_as in ((1, 1), (2, 2), (2, 7)):  # as a process that was killed leaves them
        await images.show(shown_as, root / "l" / str(number) / "image")
    before = (root / "m/1").stat().st_dev
    async with local(root, "erofs", content, clock) as parts:
        assert mounted(root) == [f"{root}/m/1", f"{root}/m/2"]
        with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
            assert names(tree) == ["a", "b"]
        assert (root / "m/1").stat().st_dev == before


async def test_mounts_of_another_data_root_are_not_taken_for_ones_own(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    directory = tmp_path / "m"
    async with local(root, "erofs", FakeContent()) as parts:
        await Kit(parts).image(tar(a="1"))
        images = ErofsMounts(directory)
        await ErofsDriver(images).probe(root)
        images.prepare(root, {1}, SetAside())
        await images.show(1, parts.disk.erofs_image(1))
        images.prepare(root, {1}, SetAside())
        assert mounted(tmp_path) == [f"{directory}/1"]
        other = tmp_path / "other"
        other.mkdir()
        ErofsMounts(directory).prepare(other, {1}, SetAside())
        assert mounted(tmp_path) == []


async def test_a_layer_unmounted_by_hand_is_mounted_again(root: Path) -> None:
    async with local(root, "erofs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        umount2(f"{root}/m/1")
        with shown(await parts.snapshots.mounts("web")) as tree:
            assert names(tree) == ["a"]


async def test_an_image_that_is_damaged_or_gone_is_named(root: Path) -> None:
    async with local(root, "erofs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1"))
        image = parts.disk.erofs_image(1)
        with image.open("r+b") as file:
            file.truncate(1500)
        with pytest.raises(DataLossError, match="/l/1/image is damaged"):
            await parts.snapshots.prepare("web", chain, {})
        image.unlink()
        with pytest.raises(DataLossError, match="/l/1/image has vanished"):
            await parts.snapshots.prepare("web", chain, {})
        assert mounted(root) == []
        await Kit(parts).image(tar(a="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
            assert names(tree) == ["a"]


async def test_an_image_that_goes_with_its_layer_is_no_loss(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with local(root, "erofs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1"))
        show = ErofsMounts.show

        async def show_late(mounts: ErofsMounts, number: int, image: Path) -> Path:
            await parts.layers.unstack([[chain]])
            return await show(mounts, number, image)

        monkeypatch.setattr(ErofsMounts, "show", show_late)
        with pytest.raises(NotFoundError, match=chain):
            await parts.snapshots.prepare("web", chain, {})
        assert mounted(root) == []


async def test_layers_of_all_formats_stack(root: Path) -> None:
    content = FakeContent()
    async with local(root, "overlayfs", content) as parts:
        first = await Kit(parts).image(tar(a="1", gone="1"))
        assert (root / "l/1/a").exists()
    async with local(root, "erofs", content) as parts:
        kit = Kit(parts)
        assert await kit.image(tar(a="1", gone="1")) == first
        assert len(list(parts.disk.layers.iterdir())) == 1  # it need not be stored again
        second = await kit.image(tar(a="1", gone="1"), tar(**{"b": "2", ".wh.gone": ""}))
        with shown(await parts.snapshots.prepare("build", second, {})) as tree:
            assert names(tree) == ["a", "b"]
            (tree / "c").touch()
        await parts.snapshots.commit("committed", "build", {})
    for driver in ("native", "overlayfs", "erofs"):
        async with local(root, driver, content) as parts:
            with shown(await parts.snapshots.prepare(f"on {driver}", "committed", {})) as tree:
                assert names(tree) == ["a", "b", "c"]


async def test_where_images_cannot_be_mounted_their_layers_are_stored_again(root: Path) -> None:
    content = FakeContent()
    async with local(root, "erofs", content) as parts:
        chain = await Kit(parts).image(tar(a="1"))
    async with local(root, "overlayfs", content, ways=()) as parts:
        with pytest.raises(UnavailableError, match="which this host cannot mount: pull the OCI image"):
            await parts.snapshots.prepare("web", chain, {})
        assert await Kit(parts).image(tar(a="1")) == chain
        with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
            assert names(tree) == ["a"]
        await parts.snapshots.cleanup()
        assert [path.name for path in parts.disk.layers.iterdir()] != ["1"]
        assert len(list(parts.disk.layers.iterdir())) == 1


def test_formats_are_what_the_database_says() -> None:
    assert {one.value for one in LayerFormat} == {"erofs", "tree"}
