"""Engines that cannot start, or run out of disk: each says why, and leaves everything as it was."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.layout import Layout
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, busybox_image, busybox_tar

pytestmark = pytest.mark.root


def test_second_engine_on_the_same_roots_is_refused_and_the_first_goes_on(engine: Engine, docker: DockerClient) -> None:
    refused = engine.sampan_fails("up", timeout=90)
    assert refused.code == 1
    assert str(engine.layout.run_root) in refused.stderr or str(engine.layout.data_root) in refused.stderr
    assert "in use" in refused.stderr or "running" in refused.stderr
    docker("version")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for sockets."""
    path = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("service", ["imaged", "snapshotter", "runtimed", "dockerapi"])
def test_wrong_key_in_a_config_file_is_named(short_path: Path, service: str) -> None:
    engine = Engine(Layout(short_path / "d", short_path / "r"), short_path / "c", short_path / "log")
    engine.config.mkdir()
    (engine.config / f"{service}.toml").write_text('log_levle = "info"\n')
    refused = engine.sampan_fails("up", "--detach", timeout=90)
    assert refused.code == 1
    assert "log_levle" in refused.stderr
    assert "log_level" in refused.stderr
    assert engine.sampan_fails("status").code == 1
    assert not list(engine.layout.run_root.glob("*.sock"))


def test_run_root_that_is_too_long_is_refused(tmp_path: Path) -> None:
    engine = Engine(Layout(tmp_path / "d", tmp_path / ("r" * 100)), tmp_path, tmp_path / "log")
    refused = engine.sampan_fails("up", "--detach")
    assert refused.code == 1
    assert "choose a shorter path" in refused.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_full_disk_fails_the_pull_and_leaves_nothing(
    small_disk: Path, registry: Registry, unique: Callable[[str], str]
) -> None:
    name = unique("huge")
    noise = subprocess.run(["head", "-c", str(40 << 20), "/dev/urandom"], check=True, capture_output=True).stdout
    push(registry, "busybox", "1", busybox_image())
    push(registry, name, "1", Image([layer(busybox_tar()), layer(tar(Entry("noise", noise)))], BUSYBOX_CONFIG))
    with run_engine({"imaged": "retry_base_s = 0.05\n"}, data_root=small_disk / "d") as engine:
        docker = DockerClient(engine.host, engine.config)
        docker("pull", "--quiet", f"{registry.address}/busybox:1")
        used = _used(small_disk)
        failed = docker.fails("pull", f"{registry.address}/{name}:1")
        assert failed.code == 1
        assert "no space left on device" in failed.stderr.lower()
        assert docker.fails("image", "inspect", f"{registry.address}/{name}:1").code == 1
        eventually(lambda: _used(small_disk) < used + (1 << 20), "the space is free again")
        assert docker("run", "--rm", f"{registry.address}/busybox:1", "echo", "works").line == "works"


def _used(directory: Path) -> int:
    shown = subprocess.run(["df", "--output=used", "--block-size=1", directory], check=True, capture_output=True)
    return int(shown.stdout.split()[1])


def test_two_engines_live_side_by_side(engine: Engine, docker: DockerClient, registry: Registry, image: str) -> None:
    with run_engine() as other:
        second = DockerClient(other.host, other.config)
        second("pull", "--quiet", image)
        assert second("ps", "--all", "--quiet").stdout == ""
        assert other.sampan("status", "--format", "json").code == 0
        for client in (docker, second):
            script = "ip -o -4 addr show eth0 | wc -l"
            assert client("run", "--rm", image, "sh", "-c", script).line == "1"
    docker("run", "--rm", image, "true")
