"""Mounts as texts, and mounts that are taken over from another container."""

from datetime import UTC, datetime

import pytest

from sampan.docker.options.binds import inherited, parse_bind, parse_volumes_from
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, Mount, MountType


def source(points: tuple[MountPoint, ...], asked: tuple[Mount, ...] = ()) -> Container:
    return Container("a" * 64, ContainerSpec(mounts=asked), datetime(2026, 1, 1, tzinfo=UTC), mounts=points)


def test_volumes_from_takes_over_what_is_not_covered() -> None:
    points = (
        MountPoint(MountType.VOLUME, "/volumes/v", "/data", name="v", driver="local"),
        MountPoint(MountType.BIND, "/host", "/bound", propagation="rslave"),
        MountPoint(MountType.BIND, "/x", "/own"),
        MountPoint(MountType.TMPFS, "", "/tmp"),
    )
    taken = inherited(source(points), [Mount(MountType.BIND, "/own")], read_only=True)
    assert [(mount.source, mount.target, mount.read_only) for mount in taken] == [
        ("v", "/data", True),
        ("/host", "/bound", True),
    ]
    assert taken[0].volume_driver == "local"
    assert (taken[0].no_copy, taken[1].no_copy, taken[1].propagation) == (True, False, "rslave")


def test_volumes_from_takes_over_parts_of_volumes_and_images() -> None:
    asked = (
        Mount(MountType.VOLUME, "/data/", "v", subpath="a/b"),
        Mount(MountType.IMAGE, "/tools", "tools:1", subpath="bin", image_id="sha256:1", chain_id="sha256:2"),
    )
    points = (
        MountPoint(MountType.VOLUME, "/volumes/v", "/data", name="v", driver="local"),
        MountPoint(MountType.IMAGE, "/run/parts/1", "/tools", name="tools:1", read_write=False),
    )
    volume, image = inherited(source(points, asked), (), read_only=False)
    assert (volume.source, volume.subpath, volume.read_only) == ("v", "a/b", False)
    assert image == Mount(MountType.IMAGE, "/tools", "sha256:1", read_only=True, subpath="bin")


def test_volumes_from_names_a_container_and_a_mode() -> None:
    assert parse_volumes_from("web:ro") == ("web", True)
    assert parse_volumes_from("web") == ("web", False)
    with pytest.raises(InvalidArgumentError, match="invalid mode: fast"):
        parse_volumes_from("web:fast")


def test_an_absolute_source_is_bound_and_made_if_missing() -> None:
    mount = parse_bind("/host:/target:ro,rshared")
    assert (mount.type, mount.source, mount.target) == (MountType.BIND, "/host", "/target")
    assert (mount.read_only, mount.propagation, mount.create_source) == (True, "rshared", True)


def test_a_name_is_a_volume() -> None:
    mount = parse_bind("data:/var/lib:nocopy")
    assert (mount.type, mount.source, mount.no_copy, mount.create_source) == (MountType.VOLUME, "data", True, False)


def test_a_target_alone_is_an_anonymous_volume() -> None:
    mount = parse_bind("/data")
    assert (mount.type, mount.source, mount.target) == (MountType.VOLUME, "", "/data")


@pytest.mark.parametrize("text", ["", ":", ":/b", "a::ro", "/a:", "/a:/b:ro:x", "/a:ro", "/a:/", "/a:b", "x:y"])
def test_other_specifications_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid volume specification"):
        parse_bind(text)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid mode: rw,fast"):
        parse_bind("/a:/b:rw,fast")


@pytest.mark.parametrize("mode", ["ro,rw", "ro,ro", "z,Z", "private,rslave", "copy,nocopy", "ro,"])
def test_two_words_of_a_kind_are_no_mode(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid mode: {mode}"):
        parse_bind(f"/a:/b:{mode}")
    with pytest.raises(InvalidArgumentError, match=f"invalid mode: {mode}"):
        parse_volumes_from(f"web:{mode}")


def test_an_empty_mode_is_none() -> None:
    assert parse_bind("/a:/b:") == parse_bind("/a:/b")


def test_paths_are_cleaned() -> None:
    mount = parse_bind("/a/../c:/b/")
    assert (mount.source, mount.target) == ("/c", "/b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data:/b:rshared", 'invalid mount config for type "volume": field BindOptions must not be specified'),
        ("/a:/b:nocopy", 'invalid mount config for type "bind": field VolumeOptions must not be specified'),
        ("/a:/b:copy", 'invalid mount config for type "bind": field VolumeOptions must not be specified'),
        (":/b:ro", ""),
        ("/a:/", "invalid mount config for type \"bind\": invalid specification: destination can't be '/'"),
        ("v:b", "invalid mount config for type \"volume\": invalid mount path: 'b' mount path must be absolute"),
        ("a::ro", 'invalid mount config for type "volume": field Target must not be empty'),
    ],
)
def test_what_the_kind_of_mount_does_not_have_is_refused_with_the_whole_text(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_bind(text)
    assert str(refused.value) == f"invalid volume specification: '{text}'" + (f": {words}" if words else "")


@pytest.mark.parametrize("mode", ["rslave", "nocopy", "copy"])
def test_volumes_that_are_taken_over_keep_their_propagation_and_content(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid mode: {mode}"):
        parse_volumes_from(f"web:{mode}")
