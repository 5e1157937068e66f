"""Docker's three spellings of true and false."""

import pytest

from sampan.docker.booleans import filter_bool, parse_bool, query_bool
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "True", "TRUE"])
def test_gos_spellings_of_true(text: str) -> None:
    assert parse_bool(text, "icc")


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "False", "FALSE"])
def test_gos_spellings_of_false(text: str) -> None:
    assert not parse_bool(text, "icc")


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", " true", "2", "none"])
def test_go_refuses_other_spellings(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_bool(text, "icc")
    assert str(refusal.value) == f"invalid value for icc: {text}"


@pytest.mark.parametrize("text", ["", "0", "no", "No", "false", "FALSE", "none", " false "])
def test_words_for_false_in_a_query(text: str) -> None:
    assert not query_bool(text)


@pytest.mark.parametrize("text", ["1", "true", "yes", "f", "off", "2", "anything"])
def test_all_else_in_a_query_is_true(text: str) -> None:
    assert query_bool(text)


@pytest.mark.parametrize(
    ("values", "expected"), [(["true"], True), (["1"], True), (["1", "true"], True), (["false"], False), (["0"], False)]
)
def test_filters_have_four_spellings(values: list[str], expected: bool) -> None:
    assert filter_bool("dangling", values) is expected


@pytest.mark.parametrize("values", [[], [""], ["t"], ["True"], ["yes"], [" true"], ["true", "false"]])
def test_other_spellings_in_filters_are_refused_by_name(values: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        filter_bool("dangling", values)
    assert str(refusal.value) == f"invalid filter 'dangling=[{' '.join(values)}]'"
