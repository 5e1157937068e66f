"""Volumes: their names, their life, who holds them, and how they are filled."""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.lifecycle.background import Background
from runtimed.volumes import local_driver
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import VolumeStore
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, Mount, MountType
from sampan.resource.volume import VolumeRequest
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

A = "a" * 64
B = "b" * 64


class Engine:
    """A core with everything it needs, and what it published."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.events: list[tuple[str, str]] = []
        self.set_aside = SetAside()
        self.volumes = LocalVolumes(
            directory / "volumes", VolumeStore(store), self._publish, Background(), self.set_aside
        )

    def _publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, actor_id))

    async def container(self, id: str, *mounts: Mount, anonymous: tuple[str, ...] = ()) -> Container:
        spec = ContainerSpec(mounts=mounts, anonymous_volumes=anonymous)
        return Container(id, spec, datetime.now(UTC), mounts=await self.volumes.resolve(id, spec))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as store:
        yield store


@pytest.fixture
async def engine(tmp_path: Path, store: Store) -> Engine:
    engine = Engine(tmp_path, store)
    await engine.volumes.recover()
    return engine


def volume(target: str, name: str = "", **more: object) -> Mount:
    return Mount(MountType.VOLUME, target, name, **more)  # type: ignore[arg-type]


async def test_creating_a_volume_twice_gives_the_same_one(engine: Engine) -> None:
    first = await engine.volumes.create(VolumeRequest("cache", "local", {}, {"a": "1"}))
    assert await engine.volumes.create(VolumeRequest("cache", "", {}, {})) == first
    assert Path(engine.volumes.mountpoint(first)).is_dir()
    assert engine.events == [("create", "cache")]


async def test_a_volume_without_a_name_gets_64_digits_and_is_anonymous(engine: Engine) -> None:
    made = await engine.volumes.create(VolumeRequest("", "", {}, {}))
    assert len(made.name) == 64
    assert made.anonymous
    assert made.labels == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize("name", ["../x", "a b", "x!y", ".hidden", "-x"])
async def test_a_name_with_other_characters_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"create .*: .* includes invalid characters for a local vol"):
        await engine.volumes.create(VolumeRequest(name, "", {}, {}))
    with pytest.raises(InvalidArgumentError, match=r"create .*: .* includes invalid characters for a local vol"):
        await engine.volumes.resolve("c" * 64, ContainerSpec(mounts=(Mount(MountType.VOLUME, "/data", name),)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"foo": "1"}, 'invalid option: "foo"'),
        ({"type": "nfs"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
    ],
)
async def test_options_that_make_no_mount_are_refused(engine: Engine, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        await engine.volumes.create(VolumeRequest("v1", "", options, {}))


async def test_an_unknown_driver_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFoundError, match=r"create .*: error looking up volume plugin rexray"):
        await engine.volumes.create(VolumeRequest("v1", "rexray", {}, {}))


async def test_a_volume_in_use_cannot_be_removed_until_it_is_released(engine: Engine) -> None:
    await engine.container(A, volume("/data", "v1"))
    with pytest.raises(ConflictError, match=rf"remove v1: volume is in use - \[{A}\]"):
        await engine.volumes.remove("v1", force=True)
    await engine.volumes.release(A, anonymous=True)
    await engine.volumes.remove("v1")
    with pytest.raises(NotFoundError, match="get v1: no such volume"):
        await engine.volumes.remove("v1")
    await engine.volumes.remove("v1", force=True)
    assert not (engine.directory / "volumes/v1").exists()


async def test_anonymous_volumes_go_with_their_container_only_if_asked(engine: Engine) -> None:
    kept = await engine.container(A, anonymous=("/data",))
    gone = await engine.container(B, volume("/x"))
    await engine.volumes.release(A, anonymous=False)
    await engine.volumes.release(B, anonymous=True)
    assert [v.name for v in await engine.volumes.list({})] == [kept.mounts[0].name]
    assert gone.mounts[0].name != kept.mounts[0].name


async def test_an_image_volume_is_not_made_where_a_mount_covers_it(engine: Engine) -> None:
    container = await engine.container(A, volume("/data/", "v1"), anonymous=("/data", "/logs"))
    assert [(p.target, p.name == "v1") for p in container.mounts] == [("/data", True), ("/logs", False)]


async def test_resolving_again_after_a_crash_finds_the_same_volumes(engine: Engine) -> None:
    first = await engine.container(A, volume("/data"))
    assert (await engine.container(A, volume("/data"))).mounts == first.mounts


async def test_a_bind_source_that_is_not_there_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidArgumentError, match="bind source path does not exist: /nosuch/path"):
        await engine.container(A, Mount(MountType.BIND, "/x", "/nosuch/path"))


async def test_a_missing_bind_source_is_made_at_start_for_dash_v(engine: Engine) -> None:
    source = engine.directory / "deep/er"
    container = await engine.container(A, Mount(MountType.BIND, "/x", str(source), create_source=True))
    await engine.volumes.fill(container, engine.directory)
    assert source.is_dir()


def image_root(directory: Path) -> Path:
    data = directory / "root/var/data"
    (data / "sub").mkdir(parents=True)
    (data / "file").write_text("content")
    (data / "file").chmod(0o640)
    os.link(data / "file", data / "sub/same")
    (data / "link").symlink_to("/etc/passwd")
    os.utime(data / "file", (1, 1))
    data.chmod(0o750)
    (directory / "root/data").symlink_to("/../../var/data")
    return directory / "root"


async def test_a_new_volume_is_filled_from_the_image_once(engine: Engine) -> None:
    root = image_root(engine.directory)
    container = await engine.container(A, volume("/data", "v1"))
    await engine.volumes.fill(container, root)
    content = Path(container.mounts[0].source)
    assert stat.S_IMODE(content.stat().st_mode) == 0o750
    assert (content / "file").read_text() == "content"
    assert (content / "file").stat().st_mtime == 1
    assert (content / "file").stat().st_ino == (content / "sub/same").stat().st_ino
    assert os.readlink(content / "link") == "/etc/passwd"
    (content / "file").unlink()
    (content / "sub/same").unlink()
    await engine.volumes.fill(container, root)
    assert not (content / "file").exists()


async def test_an_interrupted_filling_is_done_again(engine: Engine) -> None:
    root = image_root(engine.directory)
    container = await engine.container(A, volume("/data", "v1"))
    content = Path(container.mounts[0].source)
    store = engine.volumes._store
    await store.set_filled(A, "/data", 1)  # type: ignore[arg-type]
    (content / "file").write_text("half")
    (content / "sub").mkdir()
    await engine.volumes.fill(container, root)
    assert (content / "file").read_text() == "content"


async def test_a_volume_with_content_or_nocopy_is_not_filled(engine: Engine) -> None:
    root = image_root(engine.directory)
    plain = await engine.container(A, volume("/data", "v1", no_copy=True))
    await engine.volumes.fill(plain, root)
    assert os.listdir(plain.mounts[0].source) == []
    (Path(plain.mounts[0].source) / "mine").touch()
    other = await engine.container(B, volume("/data", "v1"))
    await engine.volumes.fill(other, root)
    assert os.listdir(other.mounts[0].source) == ["mine"]


async def test_prune_takes_unused_anonymous_volumes_and_named_ones_only_with_all(engine: Engine) -> None:
    await engine.volumes.create(VolumeRequest("named", "", {}, {"keep": "yes"}))
    loose = await engine.volumes.create(VolumeRequest("", "", {}, {}))
    (Path(engine.volumes.mountpoint(loose)) / "f").write_bytes(b"x" * 5000)
    await engine.container(A, volume("/x"))
    pruned = await engine.volumes.prune({})
    assert pruned.removed == (loose.name,)
    assert pruned.reclaimed_bytes >= 5000
    assert (await engine.volumes.prune({"all": ("true",), "label!": ("keep",)})).removed == ()
    assert (await engine.volumes.prune({"all": ("true",)})).removed == ("named",)


async def test_lists_are_filtered(engine: Engine) -> None:
    await engine.volumes.create(VolumeRequest("web-data", "", {}, {"tier": "web"}))
    await engine.container(A, volume("/x", "db-data"))

    async def names(filters: dict[str, tuple[str, ...]]) -> list[str]:
        return [v.name for v in await engine.volumes.list(filters)]

    assert await names({"name": ("web",)}) == ["web-data"]
    assert await names({"dangling": ("true",)}) == ["web-data"]
    assert await names({"dangling": ("0",)}) == ["db-data"]
    assert await names({"label": ("tier=web",)}) == ["web-data"]
    assert await names({"driver": ("local",)}) == ["db-data", "web-data"]
    with pytest.raises(InvalidArgumentError, match="invalid filter 'x'"):
        await names({"x": ("1",)})


async def test_recovery_finishes_removals_and_keeps_what_it_finds(engine: Engine) -> None:
    volumes = engine.directory / "volumes"
    await engine.volumes.create(VolumeRequest("half", "", {}, {}))
    await engine.volumes.create(VolumeRequest("lost", "", {}, {}))
    (volumes / "half").rename(volumes / ".gone-half")
    (volumes / ".new-x/_data").mkdir(parents=True)
    (volumes / "lost/_data").rmdir()
    (volumes / "lost").rmdir()
    (volumes / "found/_data").mkdir(parents=True)
    (volumes / "found/_data/f").touch()
    (volumes / "empty/_data").mkdir(parents=True)
    await engine.volumes.recover()
    await removals()
    assert [v.name for v in await engine.volumes.list({})] == ["found", "lost"]
    assert sorted(os.listdir(volumes)) == ["found", "lost"]
    assert (volumes / "lost/_data").is_dir()


async def removals() -> None:
    """Wait for what is removed in the background."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("remove volume")))


async def test_a_tree_too_deep_for_any_name_is_measured_and_removed(engine: Engine) -> None:
    made = await engine.volumes.create(VolumeRequest("deep", "", {}, {}))
    fd = os.open(engine.volumes.mountpoint(made), os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert await engine.volumes.size_bytes(made) > 0
    await engine.volumes.remove("deep")
    assert os.listdir(engine.directory / "volumes") == []


async def test_a_volume_whose_record_is_damaged_is_set_aside_and_can_be_removed(engine: Engine, store: Store) -> None:
    await engine.volumes.create(VolumeRequest("bad", "", {}, {"a": "b"}))
    await engine.volumes.create(VolumeRequest("good", "", {}, {}))
    await store.write(lambda db: db.execute("UPDATE volumes SET labels = '{' WHERE name = 'bad'"))
    await engine.volumes.recover()
    assert [volume.name for volume in await engine.volumes.list({})] == ["bad", "good"]
    with pytest.raises(ConflictError, match="volume bad was set aside when the engine started, remove it: its record"):
        await engine.container(A, volume("/x", "bad"))
    await engine.container(B, volume("/x", "good"))
    await engine.volumes.remove("bad")
    assert [each.id for each in engine.set_aside] == []
    await engine.container(A, volume("/x", "bad"))


async def test_a_removal_that_cannot_be_finished_keeps_no_other_volume_from_use(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.volumes.create(VolumeRequest("stuck", "", {}, {}))
    await engine.volumes.create(VolumeRequest("good", "", {}, {}))
    volumes = engine.directory / "volumes"
    (volumes / "stuck").rename(volumes / ".gone-stuck")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "d/d/d")

    monkeypatch.setattr(local_driver, "remove_tree", fail)
    await engine.volumes.recover()
    await removals()
    assert [(each.kind, each.id) for each in engine.set_aside] == [("leftover", "stuck")]
    assert [volume.name for volume in await engine.volumes.list({})] == ["good"]
    monkeypatch.undo()
    await engine.volumes.recover()
    await removals()
    assert sorted(os.listdir(volumes)) == ["good"]


async def test_many_at_once_get_one_volume(engine: Engine) -> None:
    made = await asyncio.gather(*(engine.container(f"{n:064x}", volume("/x", "shared")) for n in range(20)))
    assert len({c.mounts[0].source for c in made}) == 1
    assert len((await engine.volumes.get("shared")).used_by) == 20


async def test_mounts_are_told_at_each_start_and_unmounts_at_each_end_once(engine: Engine, tmp_path: Path) -> None:
    container = await engine.container(A, volume("/data", "cache"))
    (tmp_path / "root/data").mkdir(parents=True)
    for _ in range(2):
        engine.events.clear()
        await engine.volumes.fill(container, tmp_path / "root")
        engine.volumes.tell_mounted(container)
        await engine.volumes.leave(container)
        await engine.volumes.leave(container)
        assert engine.events == [("mount", "cache"), ("unmount", "cache")]


async def test_what_options_mount_goes_with_the_last_that_runs(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted: set[str] = set()
    driver = local_driver.LocalDriver
    monkeypatch.setattr(driver, "mount", lambda _self, name, _options: mounted.add(name))
    monkeypatch.setattr(driver, "unmount", lambda _self, name: mounted.discard(name))
    await engine.volumes.create(VolumeRequest("cache", "", {"type": "tmpfs", "device": "tmpfs"}, {}))
    (tmp_path / "root/data").mkdir(parents=True)
    first, second = [await engine.container(name, volume("/data", "cache")) for name in (A, B)]
    for container in (first, second):
        await engine.volumes.fill(container, tmp_path / "root")
    await engine.volumes.leave(first)
    assert mounted == {"cache"}
    await engine.volumes.leave(second)
    assert mounted == set()
    await engine.volumes.fill(first, tmp_path / "root")
    engine.volumes.adopt(second)
    await engine.volumes.leave(first)
    assert mounted == {"cache"}


async def test_a_volume_whose_content_is_lent_stays(engine: Engine) -> None:
    await engine.volumes.create(VolumeRequest("cache"))
    async with engine.volumes.lender.lent("cache") as place, engine.volumes.lender.lent("cache"):
        assert place == Path((await engine.volumes.get("cache")).mountpoint)
        with pytest.raises(ConflictError, match="remove cache: volume is in use - its content is being copied"):
            await engine.volumes.remove("cache", force=True)
    with pytest.raises(NotFoundError, match="get nosuch: no such volume"):
        async with engine.volumes.lender.lent("nosuch"):
            pass
    await engine.volumes.remove("cache")
