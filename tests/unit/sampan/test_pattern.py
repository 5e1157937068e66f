import subprocess
import sys

import pytest

from sampan.errors import InvalidArgumentError
from sampan.pattern import Pattern, any_found, glob


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(a+)+$", "a" * 30_000 + "!"),
        ("(.*)*x", "a" * 30_000),
        ("(a|a)*b", "a" * 30_000),
        ("(x+x+)+y", "x" * 30_000),
    ],
)
def test_expression_that_would_backtrack_for_ever_is_matched_at_once(expression: str, text: str) -> None:
    assert not Pattern(expression).found_in(text)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2000}", "invalid repeat count: `{2000}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("\\", "trailing backslash at end of expression"),
        ("\ud800", 'invalid UTF-8: "\\ud800"'),
        (r"\pL{1000}", "expression too large"),
    ],
)
def test_bad_expression_is_refused_in_gos_words(expression: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Pattern(expression)
    assert str(caught.value).startswith(f"error parsing regexp: {words}")


def test_refusal_says_what_the_pattern_was_for() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^invalid filter 'name': error parsing regexp"):
        any_found(["web", "("], "invalid filter 'name'")


def test_patterns_of_one_call_are_bounded_together() -> None:
    with pytest.raises(InvalidArgumentError, match="longer than 65536 characters together"):
        any_found(["a" * 100] * 1000, "filter")


def test_text_that_is_no_utf_8_is_searched_all_the_same() -> None:
    assert Pattern("b$").found_in("\ud800b")


def test_re2_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, sampan.pattern; assert 're2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("busy*", ["busybox", "busy"], ["busy/box", "abusy"]),
        ("*/box", ["a/box"], ["a/b/box", "box"]),
        ("bo?", ["box"], ["bo", "bo/"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[^a]x", ["bx"], ["ax", "/x"]),
        (r"a\*b", ["a*b"], ["acb"]),
        ("a.b+", ["a.b+"], ["acb", "a.bb"]),
        ("é*", ["été"], ["e"]),
    ],
)
def test_shell_pattern_is_read_as_gos_path_match_does(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = glob(pattern)
    assert [text for text in (*matching, *others) if compiled.matches(text)] == matching


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "[-]", "[a-]", "[z-a]", "a\\", "[^", "\ud800["])
def test_bad_shell_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="syntax error in pattern"):
        glob(pattern)
