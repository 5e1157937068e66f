"""What the values of Docker's filters mean, the same for every kind of object."""

import pytest

from sampan.docker.filters import check_known, found_test, label_test, parse_filters, truth, until_ns
from sampan.errors import InvalidArgumentError

NOW_NS = 1_777_636_800 * 10**9
LABELS = {"tier": "web", "empty": ""}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=web"]}, True),
        ({"label": ["tier=we"]}, False),
        ({"label": ["tier="]}, False),
        ({"label": ["empty="]}, True),
        ({"label": ["tier", "absent"]}, False),  # of labels all are needed
        ({"label!": ["tier"]}, False),
        ({"label!": ["tier=db"]}, True),
        ({"label!": ["absent", "tier=web"]}, False),  # and none that is refused
        ({"label": ["tier"], "label!": ["absent"]}, True),
    ],
)
def test_labels(filters: dict[str, list[str]], expected: bool) -> None:
    assert label_test(filters)(LABELS) is expected


@pytest.mark.parametrize(
    ("patterns", "expected"), [([], True), (["^vv$"], False), (["^v"], True), (["x", "1$"], True), (["vv-1"], True)]
)
def test_names_are_regular_expressions(patterns: list[str], expected: bool) -> None:
    assert found_test({"name": patterns}, "name")("vv-1") is expected


def test_bad_expression_is_refused_in_gos_words() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^invalid filter 'name': error parsing regexp: .*: `\(a`$"):
        found_test({"name": ["(a"]}, "name")


def test_truth_is_none_if_nothing_is_said() -> None:
    assert truth({}, "dangling") is None
    assert truth({"dangling": []}, "dangling") is None
    assert truth({"dangling": ["0"]}, "dangling") is False
    with pytest.raises(InvalidArgumentError, match="dangling=\\[x\\]"):
        truth({"dangling": ["x"]}, "dangling")


def test_until_is_one_moment() -> None:
    assert until_ns({}, NOW_NS) is None
    assert until_ns({"until": ["1h"]}, NOW_NS) == NOW_NS - 3600 * 10**9
    with pytest.raises(InvalidArgumentError, match="more than one until filter specified"):
        until_ns({"until": ["1h", "2h"]}, NOW_NS)
    with pytest.raises(InvalidArgumentError, match='"99999999999999999999"'):
        until_ns({"until": ["99999999999999999999"]}, NOW_NS)


def test_unknown_filter_is_named() -> None:
    check_known({"label": []}, ("label",))
    with pytest.raises(InvalidArgumentError, match=r"^invalid filter 'lable'$"):
        check_known({"lable": ["a"]}, ("label",))


def test_filters_of_a_command_line_are_pairs_and_collect() -> None:
    assert parse_filters(["label=a=b", " Name = x ", "label=c"], ("label", "name")) == {
        "label": ("a=b", "c"),
        "name": ("x",),
    }
    with pytest.raises(InvalidArgumentError, match=r"'dangling'.*expected key=value"):
        parse_filters(["dangling"], ("dangling",))
    with pytest.raises(InvalidArgumentError, match="'x': known filters are label, name"):
        parse_filters(["x=1"], ("label", "name"))
