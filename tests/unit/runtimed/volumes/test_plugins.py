"""Volumes that plugins keep: found, made, mounted, removed; and plugins that hang, lie or are gone."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.lifecycle.background import Background
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.plugins import Deadlines, Plugins
from runtimed.volumes.store import VolumeStore
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, RemoteError, StartError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, Mount, MountType
from sampan.resource.volume import VolumeRequest
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from tests.support.volume_plugin import VolumePlugin, volume_plugin

A, B = "a" * 64, "b" * 64


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as store:
        yield store


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[VolumePlugin]:
    with volume_plugin(tmp_path / "p", "depot", tmp_path / "kept") as plugin:
        yield plugin


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "root" / "data" / "from-image").touch()
    return tmp_path / "root"


# Long enough for a plugin of these tests on a busy machine, and not too long for one that never answers.
IMPATIENT = Deadlines(answer_s=3, look_s=3)


def made(
    tmp_path: Path, store: Store, events: list[tuple[str, str]] | None = None, deadlines: Deadlines | None = None
) -> LocalVolumes:
    def publish(type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        if events is not None:
            events.append((action, attributes["driver"]))

    plugins = Plugins(tmp_path / "p", (tmp_path / "s",), deadlines or Deadlines(answer_s=60, look_s=60))
    return LocalVolumes(tmp_path / "volumes", VolumeStore(store), publish, Background(), SetAside(), plugins)


@pytest.fixture
async def volumes(tmp_path: Path, store: Store, plugin: VolumePlugin) -> LocalVolumes:
    volumes = made(tmp_path, store)
    await volumes.recover()
    return volumes


async def container(volumes: LocalVolumes, id: str = A, driver: str = "depot") -> Container:
    spec = ContainerSpec(mounts=(Mount(MountType.VOLUME, "/data", "goods", volume_driver=driver),))
    return Container(id, spec, datetime.now(UTC), mounts=await volumes.resolve(id, spec))


async def test_a_plugin_makes_shows_and_removes_a_volume(volumes: LocalVolumes, plugin: VolumePlugin) -> None:
    volume = await volumes.create(VolumeRequest("goods", "depot", {"size": "1"}, {"a": "1"}))
    assert plugin.volumes == {"goods": {"size": "1"}}
    assert (volume.driver, volume.scope, volume.mountpoint) == ("depot", "global", str(plugin.root / "goods"))
    assert await volumes.get("goods") == volume
    assert [(one.name, one.mountpoint) for one in await volumes.list()] == [("goods", volume.mountpoint)]
    assert await volumes.create(VolumeRequest("goods", "depot")) == volume
    with pytest.raises(ConflictError, match="create goods: conflict: volume name must be unique"):
        await volumes.create(VolumeRequest("goods", "local"))
    await volumes.remove("goods")
    assert plugin.volumes == {}
    assert await volumes.list() == ()
    assert await volumes.drivers() == ("local", "depot")


@pytest.mark.parametrize("name", ["x", "host/share", "-", "a volume"])
async def test_a_plugin_judges_the_names_of_its_volumes(
    volumes: LocalVolumes, plugin: VolumePlugin, root: Path, name: str
) -> None:
    mount = Mount(MountType.VOLUME, "/data", name, volume_driver="depot")
    points = await volumes.resolve(A, ContainerSpec(mounts=(mount,)))
    assert [(point.name, point.driver) for point in points] == [(name, "depot")]
    assert plugin.volumes == {name: {}}
    with pytest.raises(InvalidArgumentError, match=f"^create {name}x/: .*includes invalid characters"):
        await volumes.create(VolumeRequest(f"{name}x/"))
    await volumes.release(A, anonymous=True)
    await volumes.remove(name)
    assert plugin.volumes == {}


async def test_a_volume_that_a_plugin_has_is_found_by_a_name_that_no_local_one_could_have(
    volumes: LocalVolumes, plugin: VolumePlugin
) -> None:
    plugin.answer("VolumeDriver.Create", {"Name": "x", "Opts": {}})
    assert (await volumes.create(VolumeRequest("x"))).driver == "depot"


async def test_what_nobody_made_here_is_seen_used_and_removed(volumes: LocalVolumes, plugin: VolumePlugin) -> None:
    plugin.answer("VolumeDriver.Create", {"Name": "goods", "Opts": {}})
    (listed,) = await volumes.list({"driver": ("depot",)})
    assert (listed.name, listed.driver) == ("goods", "depot")
    web = await container(volumes, driver="")
    assert web.mounts[0].driver == "depot"
    assert plugin.calls.count("VolumeDriver.Create") == 1
    await volumes.release(A, anonymous=True)
    await volumes.remove("goods")
    plugin.answer("VolumeDriver.Create", {"Name": "more", "Opts": {}})
    await volumes.remove("more")
    assert plugin.volumes == {}


async def test_each_mount_of_a_container_is_told_once_and_undone_once(
    tmp_path: Path, store: Store, volumes: LocalVolumes, plugin: VolumePlugin, root: Path
) -> None:
    web = await container(volumes)
    assert await volumes.fill(web, root) == {"/data": str(plugin.root / "goods")}
    assert (plugin.root / "goods" / "from-image").exists()
    assert len(plugin.mounts) == 1
    again = made(tmp_path, store)  # after a kill: what was told is written down
    await again.recover()
    for _ in range(2):
        await again.leave(web)
    assert plugin.mounts == []
    other = await container(again, B)
    await again.fill(web, root)
    await again.fill(other, root)
    assert len(set(plugin.mounts)) == 2
    with pytest.raises(ConflictError, match="volume is in use"):
        await again.remove("goods")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("hang", r"volume plugin depot: VolumeDriver.Mount has not answered within 3 s"),
        (b"no json", "volume plugin depot: VolumeDriver.Mount answers with something that is no JSON object"),
        (b"{}", "VolumeDriver.Mount answers with no absolute path: None"),
        (b'{"Mountpoint": "over/there"}', "answers with no absolute path: 'over/there'"),
        (b'{"Mountpoint": "/nonexistent/there"}', "answers with /nonexistent/there, which is no directory"),
        (b'{"Err": "the disk is on fire"}', "the disk is on fire"),
        (b"[" * 100_000, "something that is no JSON object"),
        (b"x" * (5 << 20), "the answer is longer than"),
    ],
)
async def test_a_plugin_that_hangs_or_lies_is_named(
    tmp_path: Path, store: Store, plugin: VolumePlugin, root: Path, bad: bytes | str, words: str
) -> None:
    volumes = made(tmp_path, store, deadlines=IMPATIENT)
    await volumes.recover()
    web = await container(volumes)
    plugin.bad["VolumeDriver.Mount"] = bad
    with pytest.raises(StartError, match=f"error while mounting volume 'goods': .*{words}"):
        await volumes.fill(web, root)
    await volumes.leave(web)
    # What nobody knows the outcome of is unmounted, and what the plugin refused is not.
    assert ("VolumeDriver.Unmount" in plugin.calls) is (b"Err" not in (bad if isinstance(bad, bytes) else b""))


async def test_one_that_does_not_say_what_it_is_keeps_nobody_from_the_rest(
    tmp_path: Path, store: Store, plugin: VolumePlugin
) -> None:
    volumes = made(tmp_path, store, deadlines=IMPATIENT)
    await volumes.recover()
    with volume_plugin(tmp_path / "p", "mute", tmp_path / "mute") as mute:
        mute.bad["Plugin.Activate"] = "hang"
        await volumes.create(VolumeRequest("mine"))
        await volumes.create(VolumeRequest("goods", "depot"))
        assert [one.name for one in await volumes.list()] == ["goods", "mine"]
        assert await volumes.drivers() == ("local", "depot")
        with pytest.raises(
            RemoteError, match=r"create x1: volume plugin mute: Plugin.Activate has not answered within"
        ):
            await volumes.create(VolumeRequest("x1", "mute"))
        with pytest.raises(NotFoundError, match='plugin "none" not found'):
            await volumes.create(VolumeRequest("x1", "none"))
    with pytest.raises(RemoteError, match=r"create x1: VolumeDriver.Create: no room for that"):
        await volumes.create(VolumeRequest("x1", "depot", {"fail": "yes"}))
    assert [one.name for one in await volumes.list()] == ["goods", "mine"]


async def test_a_volume_whose_plugin_is_gone_can_be_removed_by_force(tmp_path: Path, store: Store) -> None:
    volumes = made(tmp_path, store)
    with volume_plugin(tmp_path / "p", "depot", tmp_path / "kept"):
        await volumes.recover()
        await volumes.create(VolumeRequest("goods", "depot"))
    assert [one.name for one in await volumes.list()] == ["goods"]
    with pytest.raises(NotFoundError, match='plugin "depot" not found'):
        await volumes.remove("goods")
    assert [one.name for one in await volumes.list()] == ["goods"]
    await volumes.remove("goods", force=True)
    assert await volumes.list() == ()


@pytest.mark.parametrize("form", ["spec", "json"])
async def test_files_say_where_plugins_listen(tmp_path: Path, form: str) -> None:
    with volume_plugin(tmp_path / "elsewhere", "other", tmp_path / "kept"):
        address = f"unix://{tmp_path}/elsewhere/other.sock"
        (tmp_path / "s").mkdir()
        text = address if form == "spec" else json.dumps({"Name": "depot", "Addr": address})
        (tmp_path / "s" / f"depot.{form}").write_text(text)
        (tmp_path / "s" / "bad.json").write_text("{")
        (tmp_path / "s" / "odd.spec").write_text("gopher://x")
        plugins = Plugins(None, (tmp_path / "s",))
        assert (await plugins.find("depot")).name == "depot"
        assert [one.name for one in await plugins.all()] == ["depot"]


async def test_one_that_is_lent_is_mounted_meanwhile(volumes: LocalVolumes, plugin: VolumePlugin) -> None:
    await volumes.create(VolumeRequest("goods", "depot"))
    async with volumes.lender.lent("goods") as place:
        assert place == plugin.root / "goods"
        assert [name for name, _ in plugin.mounts] == ["goods"]
    assert plugin.mounts == []
    plugin.bad["VolumeDriver.Mount"] = b'{"Err": "no"}'
    with pytest.raises(StartError, match=r"error while mounting volume 'goods': no"):
        async with volumes.lender.lent("goods"):
            pass
    await volumes.remove("goods")
