import pytest

from sampan.docker.comma_fields import comma_fields
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", ()),
        ("type=bind", ("type=bind",)),
        ("a,b", ("a", "b")),
        ("a,", ("a", "")),
        (",", ("", "")),
        ('"source=/a,b",c', ("source=/a,b", "c")),
        ('"say ""yes"""', ('say "yes"',)),
        ('"two\nlines",c', ("two\nlines", "c")),
        (" a, b", (" a", " b")),
    ],
)
def test_fields_are_what_stands_between_commas_and_quotes(text: str, fields: tuple[str, ...]) -> None:
    assert comma_fields(text) == fields


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('source="/a,b"', 'parse error on line 1, column 8: bare " in non-quoted-field'),
        ('é"', 'parse error on line 1, column 3: bare " in non-quoted-field'),
        ('"a', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
        ('"a""', 'parse error on line 1, column 5: extraneous or missing " in quoted-field'),
        ('a,"two\nlines"x', 'parse error on line 2, column 6: extraneous or missing " in quoted-field'),
        ("a\nb", "parse error on line 1, column 2: end of line in non-quoted-field"),
    ],
)
def test_a_quote_that_is_not_at_an_end_of_its_field_is_refused_in_gos_words(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        comma_fields(text)
    assert str(refusal.value) == words
