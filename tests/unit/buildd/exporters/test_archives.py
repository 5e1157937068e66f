"""Archives, layouts and files."""

import json
from pathlib import Path
from typing import Any

import pytest

from buildd.protocol import Tree
from sampan.errors import InvalidArgumentError, UnimplementedError
from tests.unit.buildd.exporters.exporting import Room, one, several, unpacked


async def test_an_archive_is_a_layout_that_docker_can_load(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(one(tree), "docker", name="one:1")
    data, metadata = room.session.files["0"]
    assert metadata == told
    files = unpacked(data)

    def read(name: str) -> Any:
        return json.loads(files[name])

    assert read("oci-layout") == {"imageLayoutVersion": "1.0.0"}
    (loadable,) = read("manifest.json")
    assert loadable["RepoTags"] == ["one:1"]
    assert read(loadable["Config"])["rootfs"]["diff_ids"] == [each.diff_id for each in tree.layers]
    (entry,) = read("index.json")["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/one:1"
    names = set(files)
    assert {f"blobs/sha256/{each.descriptor.digest.hex}" for each in tree.layers} <= names
    assert f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}" in names
    assert not room.images.created


async def test_an_oci_archive_has_nothing_of_dockers_and_may_have_several_platforms(room: Room) -> None:
    trees = {"linux/amd64": room.store.add("a"), "linux/arm64": room.store.add("b")}
    await room.export(several(trees), "oci")
    names = unpacked(room.session.files["0"][0])
    assert "manifest.json" not in names
    assert len([name for name in names if name.startswith("blobs/sha256/")]) == 2 + 2 + 2 + 1
    with pytest.raises(UnimplementedError, match="manifest lists"):
        await room.export(several(trees), "docker")


async def test_an_oci_layout_goes_to_the_clients_own_store(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "oci", tar="false")
    written = room.session.stores["export"]
    assert told["containerimage.digest"] in written
    assert list(written)[-1] == told["containerimage.digest"], "what refers to others comes last"
    assert not room.session.files


async def test_files_go_as_they_are_or_by_platform(room: Room, tmp_path: Path) -> None:
    room.files.place = tmp_path
    assert await room.export(one(room.store.add("a")), "tar") == {}
    assert room.session.files["0"][0] == b"tar of all;"
    both = several({"linux/amd64": Tree(), "linux/arm64": Tree()})
    await room.export(both, "local")
    assert sorted(room.session.trees["0"]) == ["linux_amd64", "linux_arm64"]
    with pytest.raises(InvalidArgumentError, match="overwrite"):
        await room.export(both, "local", platform_split="false")
