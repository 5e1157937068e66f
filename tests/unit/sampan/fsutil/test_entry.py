import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.fsutil.entry import MAX_PATH_BYTES, check_path, mode_from_go, mode_to_go, split

KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFCHR)


@given(st.sampled_from(KINDS), st.integers(0, 0o7777))
def test_modes_are_the_same_after_both_ways(kind: int, permissions: int) -> None:
    assert mode_from_go(mode_to_go(kind | permissions)) == kind | permissions


@pytest.mark.parametrize(
    ("go", "mode"),
    [
        (0o644, 0o100644),
        (1 << 31 | 0o755, 0o40755),
        (1 << 27 | 0o777, 0o120777),
        (1 << 23 | 0o755, 0o104755),
        (1 << 31 | 1 << 20 | 0o777, 0o41777),
        (1 << 26 | 1 << 21 | 0o600, 0o20600),
        (1 << 26 | 0o600, 0o60600),
        (1 << 25 | 0o600, 0o10600),
    ],
)
def test_modes_are_those_of_go(go: int, mode: int) -> None:
    assert mode_from_go(go) == mode
    assert mode_to_go(mode) == go


def test_socket_is_told_as_a_file() -> None:
    assert mode_to_go(stat.S_IFSOCK | 0o755) == 0o755


@pytest.mark.parametrize("go", [1 << 19, 1 << 31 | 1 << 27, 1 << 24, 1 << 21])
def test_type_that_no_file_has_is_refused(go: int) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown type"):
        mode_from_go(go)


@pytest.mark.parametrize("path", [b"", b".", b"..", b"a/..", b"a/", b"a/.", b"a\0b", b"a" * (MAX_PATH_BYTES + 1)])
def test_name_that_is_none_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="no directory can hold"):
        split(path)


@pytest.mark.parametrize("path", [b"/a", b"../a", b"a/../b", b"a//b", b"./a", b"a\0/b"])
def test_path_that_leads_elsewhere_is_refused_wherever_it_does(path: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="no directory can hold"):
        check_path(path)


def test_path_is_parted_at_its_last_slash() -> None:
    assert split(b"a/b/c") == (b"a/b", b"c")
    assert check_path(b"c") == (b"", b"c")
