"""``.dockerignore`` patterns."""

import os

import pytest

from sampan.dockerfile.ignore import IgnorePatterns, parse_ignore_file
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("a", "b/a", False),
        ("*.md", "x.md", True),
        ("*.md", "d/x.md", False),
        ("*", "a/b", True),
        ("*/t", "a/t/x", True),
        ("*/t", "a/b/t", False),
        ("**/t", "t", True),
        ("**/t", "a/b/t", True),
        ("**/t", "at", False),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a**z", "a/b/z", True),
        ("**", "anything/at/all", True),
        ("x?", "xy", True),
        ("x?", "x/", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        (r"\*x", "*x", True),
        (r"\*x", "ax", False),
        ("a.c", "abc", False),
        ("[]]", "]", None),
        ("*/**/*.py", "a.py", False),
        ("*/**/*.py", "s/a.py", True),
        ("**/**/t", "t", True),
        ("**/*", "a", True),
        ("a*b*c", "abbc", True),
        ("a*b*c", "a/bc", False),
        ("*ab", "ab", True),
        ("a*a", "a", False),
        ("a/**", "b/a/c", False),
    ],
)
def test_patterns(pattern: str, path: str, excluded: bool | None) -> None:
    if excluded is None:
        with pytest.raises(InvalidArgumentError, match="syntax error in pattern"):
            IgnorePatterns([pattern])
    else:
        assert IgnorePatterns([pattern]).excludes(path) is excluded


def test_the_last_pattern_that_fits_decides() -> None:
    patterns = IgnorePatterns(["*", "!keep", "keep/not"])
    assert [patterns.excludes(path) for path in ("a", "keep", "keep/it", "keep/not")] == [True, False, False, True]
    assert patterns.has_exceptions


def test_lines_are_cleaned_comments_and_blank_ones_left_out() -> None:
    data = "\ufeff# comment\n\n  /a/../b/ \r\n ! ./c\n/\n"
    assert parse_ignore_file(data.encode()) == ("b", "!c", "/")


@pytest.mark.parametrize("line", ["a[", "[a-]", "x\\", "!b[z-"])
def test_a_bad_pattern_is_named(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match="syntax error in pattern") as caught:
        parse_ignore_file(f"ok\n{line}\n".encode())
    assert line.removeprefix("!").replace("\\", "\\\\") in str(caught.value)


def test_an_exclamation_mark_alone_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match='illegal exclusion pattern: "!"'):
        parse_ignore_file(b"!\n")


def test_patterns_need_be_no_text_as_names_need_not() -> None:
    patterns = IgnorePatterns(parse_ignore_file(b"M\xfcl*\na\xe2\x80\xa8b\n"))
    assert patterns.excludes(os.fsdecode(b"M\xfcller"))
    assert not patterns.excludes(os.fsdecode(b"M\xf6ller"))
    assert patterns.excludes("a\N{LINE SEPARATOR}b")


def test_a_strangers_pattern_takes_no_more_than_linear_states() -> None:
    assert not IgnorePatterns(["**/" * 20 + "a*" * 40 + "b"]).excludes("a/" * 500)
