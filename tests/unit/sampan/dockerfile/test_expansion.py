import pytest

from sampan.dockerfile.expansion import MAX_EXPANDED_CHARACTERS, Expander
from sampan.errors import InvalidArgumentError

ENV = {"path": "x/y/z.tar.gz", "empty": "", "home": "/root"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$path", "x/y/z.tar.gz"),
        ("${path}s", "x/y/z.tar.gzs"),
        ("$pathx", ""),
        ("${empty:-a b}", "a b"),
        ("${empty-a}", ""),
        ("${nothing-a}", "a"),
        ("${path:+with $home}", "with /root"),
        ("${empty+set}", "set"),
        ("${nothing:-${home}}", "/root"),
        ("${path:?no}", "x/y/z.tar.gz"),
        ("${path#*/}", "y/z.tar.gz"),
        ("${path##*/}", "z.tar.gz"),
        ("${path%.*}", "x/y/z.tar"),
        ("${path%%.*}", "x/y/z"),
        ("${path%nothing}", "x/y/z.tar.gz"),
        ("${path/\\//-}", "x-y/z.tar.gz"),
        ("${path//\\//-}", "x-y-z.tar.gz"),
        ("${path//[yz]}", "x/y/z.tar.gz"),
        ("${path//?/.}", "." * 12),
        ("'$path'", "$path"),
        ('"$home \\"a\\" \\n"', '/root "a" \\n'),
        ("\\$path", "$path"),
        ("a\\ b", "a b"),
        ("a$", "a$"),
        ("$1", ""),
        ("$home/bin", "/root/bin"),
    ],
)
def test_words_are_expanded_as_a_shell_does(word: str, expected: str) -> None:
    assert Expander(ENV).expand(word) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'a", "single-quote"),
        ('"a', "double-quote"),
        ("${path", "missing '}'"),
        ("${}", "bad substitution"),
        ("${path:-a", "missing '}'"),
        ("${path@Q}", "unsupported modifier"),
        ("${nothing:?tell me}", "nothing: tell me"),
        ("${nothing?}", "nothing: not allowed to be unset"),
        ("${empty:?}", "empty: not allowed to be empty"),
    ],
)
def test_what_cannot_be_expanded_is_named(word: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Expander(ENV).expand(word)


def test_what_was_asked_for_and_not_there_is_noted() -> None:
    expander = Expander(ENV)
    expander.expand("$home ${nothing:-a} $lost")
    assert expander.used == {"home", "nothing", "lost"}
    assert expander.unset == {"nothing", "lost"}


def test_another_escape_leaves_backslashes_alone() -> None:
    assert Expander(ENV, escape="`").expand("C:\\$home`$x") == "C:\\/root$x"


def test_quotes_are_text_in_the_content_of_a_here_document() -> None:
    assert Expander(ENV, keep_quotes=True).expand("'$home' \"x\" \\$home \\n") == "'/root' \"x\" $home n"


def test_a_pattern_that_would_take_for_ever_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="steps"):
        Expander({"a": "a" * 20_000}).expand("${a//a*b/c}")


def test_a_word_that_grows_without_end_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expands to more"):
        Expander({"a": "x" * MAX_EXPANDED_CHARACTERS}).expand("$a$a")
