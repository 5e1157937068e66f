"""ADD of archives, hostile ones among them."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from sampan.errors import InvalidArgumentError
from tests.unit.buildd.files.places import fill, like_dockerfile, run


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            info.uid, info.gid = os.getuid(), os.getgid()
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mtime = 7
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=to)


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


PLAIN = archive(
    directory("d", 0o710), member("d/a", b"A", mode=0o640), link("l", "d/a"), link("h", "d/a", tarfile.LNKTYPE)
)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return fill(tmp_path / "target", {})


def add(tmp_path: Path, target: Path, data: bytes, dest: str = "/x/", **more: object) -> dict[str, str]:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "archive").write_bytes(data)
    return run(source, target, like_dockerfile("/archive", dest, attempt_unpack=True, **more))


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=lambda each: each.__module__,
)
def test_archives_are_unpacked(tmp_path: Path, target: Path, compress: Callable[[bytes], bytes]) -> None:
    assert add(tmp_path, target, compress(PLAIN)) == {"x/d/a": "A", "x/l": "-> d/a", "x/h": "A"}
    assert stat.S_IMODE((target / "x/d").stat().st_mode) == 0o710
    assert stat.S_IMODE((target / "x/d/a").stat().st_mode) == 0o640
    assert (target / "x/d").stat().st_mtime == (target / "x/d/a").stat().st_mtime == 7
    assert (target / "x/h").stat().st_ino == (target / "x/d/a").stat().st_ino


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(2048),
        gzip.compress(b"text", mtime=0),
        PLAIN[:300],
        gzip.compress(PLAIN, mtime=0)[:20],
        b"\x1f\x8b\x08x",
    ],
    ids=["nothing", "text", "zeros", "packed text", "part of a tar", "part of a packed tar", "packed nonsense"],
)
def test_what_is_no_archive_is_copied(tmp_path: Path, target: Path, data: bytes) -> None:
    add(tmp_path, target, data)
    assert (target / "x/archive").read_bytes() == data


def test_it_is_merged_with_what_is_there(tmp_path: Path, target: Path) -> None:
    fill(target, {"x/d/old": "O", "x/d/a/in": "the way", "x/l": "L"})
    assert add(tmp_path, target, PLAIN) == {"x/d/a": "A", "x/d/old": "O", "x/l": "-> d/a", "x/h": "A"}


@pytest.mark.parametrize("name", ["../y", "d/../../y", "/../y", "../../../../../../../y", "d/../../../e/../y"])
def test_names_that_lead_out_lead_to_where_it_is_unpacked(tmp_path: Path, target: Path, name: str) -> None:
    data = archive(member("../ok", b"1"), link("d", "../.."), member(name, b"2"), member("../../x", b"3"))
    add(tmp_path, target, data)
    assert [each for each in tmp_path.rglob("*") if each.name in ("y", "x", "ok")] == [target / "x"] + [
        target / "x" / each for each in os.listdir(target / "x") if each != "d"
    ]
    assert sorted(os.listdir(target / "x")) == ["d", "ok", "x", "y"]


def test_links_lead_no_further_than_where_it_is_unpacked(tmp_path: Path, target: Path) -> None:
    outside = fill(tmp_path / "outside", {"a": "mine"})
    fill(target, {"etc/passwd": "root"})
    data = archive(
        link("up", "../../outside"), member("up/a", b"1"),
        link("abs", str(outside)), member("abs/a", b"2"),
        link("lib", "/etc"), member("lib/passwd", b"3"),
        link("f", str(outside / "a")), member("f", b"4"),
    )  # fmt: skip
    add(tmp_path, target, data)
    assert (outside / "a").read_text() == "mine"
    assert (target / "etc/passwd").read_text() == "root"
    assert (target / "x/outside/a").read_text() == "1"
    assert (target / "x/f").read_text() == "4"
    assert (target / "x/etc/passwd").read_text() == "3"


@pytest.mark.parametrize("to", ["/etc/passwd", "../../etc/passwd", "none", ""])
def test_hard_links_to_what_is_not_in_it_are_refused(tmp_path: Path, target: Path, to: str) -> None:
    with pytest.raises(InvalidArgumentError, match="entry 'h'"):
        add(tmp_path, target, archive(link("h", to, tarfile.LNKTYPE)))


def test_attributes_of_the_engine_are_refused(tmp_path: Path, target: Path) -> None:
    info, content = member("d", b"")
    info.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
    with pytest.raises(InvalidArgumentError, match="only the engine may set"):
        add(tmp_path, target, archive((info, content)))


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, target: Path) -> None:
    data = archive(member("a", b"1"), member("b", b"x" * 100_000))
    with pytest.raises(InvalidArgumentError, match=r"cannot unpack /archive: .*ends in the middle"):
        add(tmp_path, target, data[:50_000])


def test_directories_on_the_way_are_made(tmp_path: Path, target: Path) -> None:
    assert add(tmp_path, target, archive(member("a/b/c", b"1"), member("a", b"2")), dest="/x") == {"x/a": "2"}


def test_not_unpacked_unless_asked_for(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "archive").write_bytes(PLAIN)
    run(source, target, like_dockerfile("/archive", "/x/"))
    assert (target / "x/archive").read_bytes() == PLAIN
