"""Volumes of a plugin that speaks Docker's protocol: through both clients of an engine that finds it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine, run_engine
from tests.support.tools import eventually
from tests.support.trees import busybox_tar
from tests.support.volume_plugin import VolumePlugin, volume_plugin

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(TARGET), reason="the plugin is not where dockerd looks")]

Client = Callable[..., Result]

IMAGE = "busybox:plugins"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumePlugin]:
    directory = tmp_path_factory.mktemp("plugin")
    with volume_plugin(directory / "p", "depot", directory / "kept") as plugin:
        yield plugin


@pytest.fixture(scope="module")
def equipped(plugin: VolumePlugin) -> Iterator[Engine]:
    sockets = plugin.root.parent / "p"
    with run_engine({"runtimed": f'plugin_socket_dir = "{sockets}"\nplugin_spec_dirs = []\n'}) as engine:
        yield engine


@pytest.fixture(scope="module", params=["docker", "sampan"])
def client(
    request: pytest.FixtureRequest, equipped: Engine, docker_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Client:
    docker = DockerClient(equipped.host, docker_config)
    if IMAGE not in docker("images", "--format", "{{.Repository}}:{{.Tag}}").lines:
        archive = tmp_path_factory.mktemp("image") / "root.tar"
        archive.write_bytes(busybox_tar())
        docker("import", str(archive), IMAGE)
    return docker.fails if request.param == "docker" else equipped.sampan_fails


def test_a_volume_lives_with_its_plugin(client: Client, plugin: VolumePlugin) -> None:
    assert client("volume", "create", "--driver", "depot", "--opt", "size=1", "goods").line == "goods"
    assert plugin.volumes["goods"] == {"size": "1"}
    assert "depot     goods" in client("volume", "ls").lines
    shown = client("volume", "inspect", "--format", "{{.Driver}} {{.Scope}} {{.Mountpoint}}", "goods")
    assert shown.line == f"depot global {plugin.root}/goods"
    assert "depot" in client("info").stdout
    assert client("volume", "rm", "goods").code == 0
    assert "goods" not in plugin.volumes


def test_anonymous_volumes_are_of_the_container_s_driver(
    client: Client, plugin: VolumePlugin, unique: Callable[[str], str]
) -> None:
    name = unique("driven")
    flags = ("--network", "none", "--volume-driver", "depot", "--volume", "/data", "--name", name)
    assert client("run", *flags, IMAGE, "true").code == 0
    form = "{{range .Mounts}}{{.Driver}} {{.Name}}{{end}} {{.HostConfig.VolumeDriver}}"
    driver, volume, of_all = client("inspect", "--format", form, name).line.split()
    assert (driver, of_all) == ("depot", "depot")
    assert volume in plugin.volumes
    assert client("rm", "-v", name).code == 0
    assert volume not in plugin.volumes


def test_it_is_mounted_while_a_container_runs(client: Client, plugin: VolumePlugin) -> None:
    flags = ("--network", "none", "--volume-driver", "depot", "--volume", "used:/data")
    assert client("run", "--rm", *flags, IMAGE, "sh", "-c", "echo kept > /data/file; cat /data/file").line == "kept"
    assert (plugin.root / "used" / "file").read_text() == "kept\n"
    eventually(lambda: plugin.mounts == [], "it is unmounted with its container")
    client("run", "--detach", "--name", "user", *flags, IMAGE, "sleep", "1000")
    assert [name for name, _ in plugin.mounts] == ["used"]
    assert "volume is in use" in client("volume", "rm", "used").stderr
    client("stop", "--time", "0", "user")
    eventually(lambda: plugin.mounts == [], "it is unmounted")
    client("rm", "user")
    assert client("volume", "rm", "used").code == 0


def test_a_container_started_before_a_kill_is_unmounted_after_it(
    equipped: Engine, client: Client, plugin: VolumePlugin
) -> None:
    flags = ("--network", "none", "--volume-driver", "depot", "--volume", "held:/data")
    client("run", "--detach", "--name", "holder", *flags, IMAGE, "sleep", "1000")
    equipped.stop()
    equipped.start()
    assert [name for name, _ in plugin.mounts] == ["held"]
    client("rm", "--force", "holder")
    eventually(lambda: plugin.mounts == [], "it is unmounted")
    assert client("volume", "rm", "held").code == 0


def test_what_it_refuses_is_told_in_its_words(client: Client, plugin: VolumePlugin) -> None:
    refused = client("volume", "create", "--driver", "depot", "--opt", "fail=yes", "bad")
    assert refused.code == 1
    assert "create bad: VolumeDriver.Create: no room for that" in refused.stderr
    plugin.bad["VolumeDriver.Mount"] = b'{"Mountpoint": ""}'
    try:
        refused = client("run", "--rm", "--network", "none", "--volume-driver", "depot", "-v", "lie:/x", IMAGE, "true")
    finally:
        plugin.bad.clear()
    assert refused.code == 125
    assert "error while mounting volume 'lie': volume plugin depot: VolumeDriver.Mount answers with" in refused.stderr
    assert client("volume", "rm", "lie").code == 0
