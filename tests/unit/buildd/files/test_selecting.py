from pathlib import Path

import pytest

from buildd.files.root import Root
from buildd.files.selecting import expand, match
from tests.unit.buildd.files.places import fill


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "abc", True),
        ("a*c", "abc", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a**c", "abbc", True),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("!x", "!x", True),
        ("!*", "!x", True),
        ("!*", "x", False),
        ("*" + "a*" * 30 + "b", "a" * 200, False),
    ],
)
def test_match_is_go_s(pattern: str, name: str, fits: bool) -> None:
    assert match(pattern)(name) is fits


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/*", ["/a1", "/d", "/l"]),
        ("/*/*", ["/d/a2", "/d/e"]),
        ("/*/e/*", ["/d/e/a3"]),
        ("/d/../a*", ["/a1"]),
        ("/l/*", ["/d/a2", "/d/e"]),
        ("/none/*", []),
        ("/none", ["/none"]),
        ("/a1/*", []),
    ],
)
def test_wildcards(tmp_path: Path, path: str, found: list[str]) -> None:
    files = fill(tmp_path / "files", {"a1": "1", "d/a2": "2", "d/e/a3": "3", "l": "-> d"})
    with Root.open(files) as root:
        assert expand(root, path, follow=True) == found
