"""Where copies go, and which argument names a container."""

import asyncio
import io
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.commands.container.cp import split
from sampan_cli.streams import archive_file
from sampan_cli.streams.copying import goes_to, unpack


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("web:/etc", ("web", "/etc")),
        ("web:etc", ("web", "/etc")),
        ("web:", ("web", "/")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("-", ("", "-")),
        ("file", ("", "file")),
    ],
)
def test_a_colon_names_a_container_unless_the_path_says_otherwise(argument: str, expected: tuple[str, str]) -> None:
    assert split(argument) == expected


@pytest.mark.parametrize(
    ("source", "target", "is_directory", "there", "expected"),
    [
        ("a/f", "/tmp", False, "directory", ("/tmp", "f")),
        ("a/f", "/tmp/g", False, "", ("/tmp", "g")),
        ("a/f", "/tmp/g", False, "file", ("/tmp", "g")),
        ("a/f", "g", False, "", (".", "g")),
        ("a/d", "/tmp", True, "directory", ("/tmp", "d")),
        ("a/d/", "/tmp", True, "directory", ("/tmp", "d")),
        ("a/d/.", "/tmp", True, "directory", ("/tmp", "")),
        ("a/d", "/tmp/e/", True, "", ("/tmp", "e")),
        ("a/d/.", "/tmp/e", True, "", ("/tmp", "e")),
    ],
)
def test_a_copy_goes_where_cp_would_put_it(
    source: str, target: str, is_directory: bool, there: str, expected: tuple[str, str]
) -> None:
    assert goes_to(source, target, is_directory=is_directory, target_kind=there) == expected


@pytest.mark.parametrize(
    ("target", "is_directory", "there", "message"),
    [("/tmp/f", True, "file", "cannot copy a directory to a file"), ("/tmp/d/", False, "", "no such directory")],
)
def test_a_copy_that_goes_nowhere_is_refused(target: str, is_directory: bool, there: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        goes_to("a", target, is_directory=is_directory, target_kind=there)


def _tar(*members: tuple[str, str]) -> io.BytesIO:
    """Return a tar of files, or of links: ``-> target``, ``=> target`` for hard ones."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content.startswith("=> "):
                info.type, info.linkname = tarfile.LNKTYPE, content[3:]
                archive.addfile(info)
            elif content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content.encode()))
    buffer.seek(0)
    return buffer


def test_what_arrives_has_the_new_name(tmp_path: Path) -> None:
    unpack(_tar(("d/f", "1"), ("d/sub/g", "2")), tmp_path, "d", "e", archive=False)
    assert (tmp_path / "e/f").read_text() == "1"
    assert (tmp_path / "e/sub/g").read_text() == "2"


@pytest.mark.parametrize("member", [("d/../../out", "1"), ("d/link/out", "1")])
def test_a_container_cannot_write_elsewhere(tmp_path: Path, member: tuple[str, str]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises((tarfile.TarError, OSError)):
        unpack(_tar(("d/link", f"-> {tmp_path}"), member), inside, "d", "d", archive=False)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("safe")
    unpack(_tar(("d/f", f"-> {outside}"), ("d/f", "1")), inside, "d", "d", archive=False)
    assert (inside / "d/f").read_text() == "1"
    assert outside.read_text() == "safe"


def test_a_hard_link_cannot_reach_a_file_elsewhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("safe")
    members = ("d/up", f"-> {tmp_path}"), ("d/f", "=> d/up/outside"), ("d/f", "1")
    with pytest.raises(tarfile.TarError, match="outside the destination"):
        unpack(_tar(*members), inside, "d", "d", archive=False)
    assert outside.read_text() == "safe"


def test_a_file_does_not_take_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d/f").mkdir(parents=True)
    with pytest.raises(tarfile.TarError, match="cannot overwrite directory"):
        unpack(_tar(("d/f", "1")), tmp_path, "d", "d", archive=False)


async def test_a_file_that_is_written_in_part_is_not_there(tmp_path: Path) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"half"
        await asyncio.sleep(0)
        raise InvalidArgumentError("broken off")

    with pytest.raises(InvalidArgumentError, match="broken off"):
        await archive_file.write(broken(), str(tmp_path / "out"), "save")
    assert list(tmp_path.iterdir()) == []
