"""Layers made to harm the host: refused, or kept inside the image; either way nothing outside changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient
from tests.support.images import Entry, Image, Layer, directory, hardlink, layer, push, symlink, tar
from tests.support.registry import Registry
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar

Unique = Callable[[str], str]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file on the host that a hostile layer tries to change."""
    path = tmp_path / "victim"
    path.write_text("untouched")
    return path


def pull(docker: DockerClient, registry: Registry, name: str, *entries: Entry) -> tuple[int, str]:
    image = Image([layer(busybox_tar()), layer(tar(*entries))], BUSYBOX_CONFIG)
    push(registry, name, "1", image)
    result = docker.fails("pull", f"{registry.address}/{name}:1", timeout=120)
    return result.code, result.stderr


@pytest.mark.parametrize("name", ["../up", "d/../../up", "..", "d/.."])
def test_name_that_climbs_out_is_refused(
    docker: DockerClient, registry: Registry, unique: Unique, nothing_left: None, name: str
) -> None:
    code, message = pull(docker, registry, unique("climb"), Entry(name, b"escaped"))
    if code == 0:  # resolved inside the root, as `cd /; cat > ../up` would be
        return
    assert name in message or "outside" in message or TARGET


@pytest.mark.parametrize("kind", ["absolute", "climbing", "link to directory", "hard link", "hard link through link"])
def test_nothing_outside_the_image_changes(
    docker: DockerClient, registry: Registry, unique: Unique, victim: Path, kind: str
) -> None:
    climb = "../" * 20 + str(victim).lstrip("/")
    entries = {
        "absolute": [Entry(str(victim), b"escaped")],
        "climbing": [Entry(climb, b"escaped")],
        "link to directory": [symlink("link", str(victim.parent)), Entry("link/victim", b"escaped")],
        "hard link": [hardlink("stolen", str(victim)), Entry("stolen", b"escaped")],
        "hard link through link": [symlink("link", climb), hardlink("stolen", "link"), Entry("stolen", b"escaped")],
    }[kind]
    name = unique("hostile")
    code, message = pull(docker, registry, name, *entries)
    assert victim.read_text() == "untouched"
    assert victim.stat().st_nlink == 1
    if code:
        assert len(message) > 20
        return
    script = f"cat /stolen {victim} 2>/dev/null; true"
    assert (
        "untouched"
        not in docker("run", "--rm", "--network=none", f"{registry.address}/{name}:1", "sh", "-c", script).stdout
    )


def test_absolute_name_is_meant_below_the_root(docker: DockerClient, registry: Registry, unique: Unique) -> None:
    name = unique("absolute")
    assert pull(docker, registry, name, Entry("/inside", b"yes"))[0] == 0
    assert docker("run", "--rm", "--network=none", f"{registry.address}/{name}:1", "cat", "/inside").stdout == "yes"


def test_path_of_100000_components_is_refused(
    docker: DockerClient, registry: Registry, unique: Unique, nothing_left: None
) -> None:
    code, message = pull(docker, registry, unique("deep"), Entry("a/" * 100_000 + "f", b"x"))
    assert code == 1
    assert message
    assert len(message) < 2_000 or TARGET


def test_whiteout_cannot_remove_outside(docker: DockerClient, registry: Registry, unique: Unique, victim: Path) -> None:
    entries = [symlink("link", str(victim.parent)), Entry("link/.wh.victim")]
    pull(docker, registry, unique("whiteout"), *entries)
    pull(docker, registry, unique("whiteout"), directory("d"), Entry("d/.wh..."), Entry("d/.wh.."))
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("layers", [1, 2])
def test_way_through_a_link_to_the_root_ends_inside(
    docker: DockerClient, registry: Registry, unique: Unique, victim: Path, layers: int
) -> None:
    entries = [symlink("a", "/"), Entry(f"a{victim}", b"escaped")]
    parts = [tar(*entries)] if layers == 1 else [tar(entry) for entry in entries]
    name = unique("through")
    push(registry, name, "1", Image([layer(busybox_tar()), *map(layer, parts)], BUSYBOX_CONFIG))
    docker("pull", f"{registry.address}/{name}:1")
    shown = docker("run", "--rm", "--network=none", f"{registry.address}/{name}:1", "cat", f"/a{victim}").stdout
    assert shown == "escaped"
    assert victim.read_text() == "untouched"


def test_tag_stays_where_it_was_when_a_layer_of_its_new_image_is_refused(
    docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    name = unique("stays")
    good = Image([layer(busybox_tar())], {**BUSYBOX_CONFIG, "Labels": {"name": name}})
    push(registry, name, "1", good)
    docker("pull", f"{registry.address}/{name}:1")
    bad = layer(tar(Entry("f", b"x" * 5000)))
    assert isinstance(bad.blob, bytes)
    push(registry, name, "1", Image([*good.layers, Layer(bad.blob, f"sha256:{'0' * 64}")], BUSYBOX_CONFIG))
    refused = docker.fails("pull", f"{registry.address}/{name}:1")
    assert refused.code == 1
    assert "0" * 64 in refused.stderr or TARGET
    assert docker("images", "--no-trunc", "--quiet", f"{registry.address}/{name}:1").lines == [good.id]
    assert docker("run", "--rm", "--network=none", f"{registry.address}/{name}:1", "echo", "runs").lines == ["runs"]
