import io
import os
import tarfile
from pathlib import Path

import pytest

from buildd.files import reading
from buildd.files.reading import read_directory, read_file, stat_path, write_tar
from buildd.files.root import Root
from sampan.errors import InvalidArgumentError, NotFoundError
from tests.unit.buildd.files.places import EPOCH_NS, fill


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return fill(tmp_path / "files", {"a": "0123456789", "d/b": "B", "l": "-> /a", "out": "-> ../../etc/passwd"})


def test_read_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Root.open(files) as root:
        assert read_file(root, "/a", 0, 0) == b"0123456789"
        assert read_file(root, "l", 3, 4) == b"3456"
        assert read_file(root, "/a", 8, 100) == b"89"
        assert read_file(root, "/a", 100, 0) == b""
        for path in ("/none", "/out", "/a/b"):
            with pytest.raises(NotFoundError):
                read_file(root, path, 0, 0)
        os.mkfifo(files / "fifo")
        for path in ("/d", "/fifo"):
            with pytest.raises(InvalidArgumentError, match=f"^open {path}: not a regular file$"):
                read_file(root, path, 0, 0)
        monkeypatch.setattr(reading, "MAX_READ_BYTES", 5)
        with pytest.raises(InvalidArgumentError, match="/a exceeds maximum allowed size of 5 bytes"):
            read_file(root, "/a", 0, 0)


def test_stat_and_list(files: Path) -> None:
    (files / "d").chmod(0o1755)
    (files / "a").chmod(0o4755)
    with Root.open(files) as root:
        found = {each.path: each for each in read_directory(root, "/", "")}
        assert list(found) == ["a", "d", "l", "out"]
        assert found["a"] == stat_path(root, "/d/../a")
        assert (found["a"].mode, found["a"].size, found["a"].mtime_ns) == (1 << 23 | 0o755, 10, EPOCH_NS)
        assert found["d"].mode == 1 << 31 | 1 << 20 | 0o755
        assert (found["l"].mode, found["l"].link_name) == (1 << 27 | 0o777, "/a")
        assert [each.path for each in read_directory(root, "/", "[ad]*")] == ["a", "d"]
        assert stat_path(root, "/").mode & 1 << 31
        with pytest.raises(NotFoundError):
            read_directory(root, "/a", "")
        with pytest.raises(NotFoundError):
            stat_path(root, "/none")


def test_tar(files: Path) -> None:
    os.link(files / "a", files / "d/again")
    data = io.BytesIO()
    with Root.open(files) as root:
        write_tar([("", root), ("linux_amd64", root)], data.write)
    data.seek(0)
    with tarfile.open(fileobj=data) as tar:
        members = {each.name: each for each in tar}
        assert list(members) == [
            "a", "d", "d/again", "d/b", "l", "out", "linux_amd64",
            *(f"linux_amd64/{name}" for name in ("a", "d", "d/again", "d/b", "l", "out")),
        ]  # fmt: skip
        assert members["d/again"].linkname == "a"
        assert members["linux_amd64/d/again"].linkname == "linux_amd64/a"
        assert tar.extractfile("d/b").read() == b"B"  # type: ignore[union-attr]
