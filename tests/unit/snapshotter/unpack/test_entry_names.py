import pytest

from sampan.errors import InvalidArgumentError
from snapshotter.unpack.entry_names import Meaning, Place, place


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", b"a/b"),
        (b"/a/b", b"a/b"),
        (b"./a//b/.", b"a/b"),
        (b".", b""),
        (b"./", b""),
        (b"/", b""),
        (b"a/.../b", b"a/.../b"),
        (b"..a/b..", b"..a/b.."),
        (b"a.wh.b", b"a.wh.b"),
    ],
)
def test_names_become_paths_below_the_root(name: bytes, path: bytes) -> None:
    assert place(name) == Place(Meaning.FILE, path)


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../b", b"/..", b"a/..", b"/../../etc/passwd"])
def test_names_with_dot_dot_are_refused(name: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'\.\.' component"):
        place(name)


def test_whiteouts_name_what_they_hide() -> None:
    assert place(b"a/.wh.b") == Place(Meaning.WHITEOUT, b"a/b")
    assert place(b"./.wh.b") == Place(Meaning.WHITEOUT, b"b")
    assert place(b"a/.wh..wh..opq") == Place(Meaning.OPAQUE, b"a")
    assert place(b".wh..wh..opq") == Place(Meaning.OPAQUE, b"")


@pytest.mark.parametrize("name", [b".wh.", b"a/.wh.", b"a/.wh..", b"a/.wh..."])
def test_whiteouts_of_nothing_are_refused(name: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="whiteout of nothing"):
        place(name)


def test_files_inside_a_whiteout_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="inside a whiteout"):
        place(b".wh.a/b")


@pytest.mark.parametrize("name", [b".wh..wh.plnk", b".wh..wh.plnk/1.2", b"a/.wh..wh.aufs"])
def test_bookkeeping_of_aufs_means_nothing(name: bytes) -> None:
    assert place(name).meaning is Meaning.NOTHING


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="empty"):
        place(b"")
