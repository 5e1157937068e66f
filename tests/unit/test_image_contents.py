"""The comparison of images that the examples' tests rest on finds what differs, and nothing else."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.support.image_contents import ImageContents, differences, read_image
from tests.support.images import Entry, Image, directory, hardlink, layer, symlink, tar


def archived(tmp_path: Path, config: bytes, *layers: bytes) -> Path:
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    members = {"manifest.json": manifest, "config.json": config, **dict(zip(names, layers, strict=True))}
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(tmp_path: Path, *trees: bytes, compression: str = "gzip", **config: object) -> ImageContents:
    image = Image([layer(each, compression) for each in trees], config)
    blobs = [each.blob for each in image.layers if isinstance(each.blob, bytes)]
    return read_image(archived(tmp_path, image.config_blob(), *blobs))


BASE = tar(directory("d"), Entry("d/a", b"A"), hardlink("d/b", "d/a"), Entry("e", b"E"), symlink("l", "d"))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_later_layers_hide_replace_and_add(tmp_path: Path, compression: str) -> None:
    found = read(
        tmp_path,
        BASE,
        tar(directory("d"), Entry("d/.wh..wh..opq"), Entry("d/c", b"C"), Entry(".wh.e"), directory("l")),
        tar(Entry("d/a", b"again")),
        compression=compression,
    )
    assert {path: facts.kind for path, facts in found.files.items()} == {
        "/d": "directory",
        "/d/c": "file",
        "/d/a": "file",
        "/l": "directory",
    }
    assert found.layers[2] == {"/d/a"}


def test_what_is_written_beside_a_whiteout_of_its_name_stays(tmp_path: Path) -> None:
    found = read(tmp_path, BASE, tar(Entry("e", b"new"), Entry(".wh.e")))
    assert "/e" in found.files


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([Entry("f", b"2")], "digest"),
        ([Entry("f", b"1", mode=0o4755)], "mode 0o644 and 0o4755"),
        ([Entry("f", b"1", uid=7)], "uid 0 and 7"),
        ([Entry("f", b"1", gid=7)], "gid 0 and 7"),
        ([Entry("f", b"1", xattrs={"user.a": "x"})], "xattrs () and (('user.a', '78'),)"),
        ([symlink("f", "g")], "kind 'file' and 'symlink'"),
        ([Entry("f", b"1"), hardlink("g", "f")], "linked () and ('/g',)"),
        ([], "and absent"),
    ],
)
def test_each_fact_of_a_file_is_compared(tmp_path: Path, other: list[Entry], said: str) -> None:
    one, two = read(tmp_path, tar(Entry("f", b"1"))), read(tmp_path, tar(*other))
    assert differences(one, one) == []
    (first, *_) = differences(one, two)
    assert first.startswith("/f: ")
    assert said in first
    assert differences(one, two, ("/f", "/g")) == []


def test_configs_are_compared_by_what_they_say(tmp_path: Path) -> None:
    one = read(tmp_path, BASE, User="", Env=["A=b"], Labels={"a": "b"})
    two = read(tmp_path, BASE, Env=["A=c"], OnBuild=None, Labels={"a": "b"})
    assert differences(one, two) == ["config Env: ['A=b'] and ['A=c']"]
    assert differences(one, two, ("config Env",)) == []


def test_a_layer_that_is_not_what_the_config_says_is_refused(tmp_path: Path) -> None:
    path = archived(tmp_path, Image([layer(tar())]).config_blob(), BASE)
    with pytest.raises(ValueError, match="a layer is sha256:"):
        read_image(path)
