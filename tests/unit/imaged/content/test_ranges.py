"""Sets of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaged.content.ranges import Range, Ranges

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: Range(pair[0], sum(pair))))


@pytest.mark.parametrize(
    ("added", "missing"),
    [
        ([], [(0, 10)]),
        ([(0, 10)], []),
        ([(2, 4)], [(0, 2), (4, 10)]),
        ([(0, 2), (2, 4)], [(4, 10)]),
        ([(8, 10), (0, 3), (2, 8)], []),
        ([(4, 4)], [(0, 10)]),
    ],
)
def test_what_is_missing_is_what_was_not_added(added: list[tuple[int, int]], missing: list[tuple[int, int]]) -> None:
    ranges = Ranges(Range(*one) for one in added)
    assert ranges.missing(Range(0, 10)) == [Range(*one) for one in missing]


@given(SPANS)
def test_ranges_are_the_set_of_their_bytes(spans: list[Range]) -> None:
    ranges = Ranges(spans)
    here = {byte for span in spans for byte in range(span.start, span.end)}
    assert ranges.size == len(here)
    gone = {byte for gap in ranges.missing(Range(5, 70)) for byte in range(gap.start, gap.end)}
    assert gone == set(range(5, 70)) - here
    assert set(range(ranges.prefix_end)) <= here
    assert ranges.prefix_end not in here
