"""Durations: Go's syntax, and words."""

import pytest

from sampan.docker.durations import MAX_NS, MIN_NS, ago, go_duration, human_duration, parse_duration
from sampan.errors import InvalidArgumentError

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("1s", SECOND_NS),
        (".5h", HOUR_NS // 2),
        ("1.h", HOUR_NS),
        ("1h2m", HOUR_NS + 120 * SECOND_NS),
        ("1.5s", 3 * SECOND_NS // 2),
        ("300ms", 300_000_000),
        ("2us", 2000),
        ("2µs", 2000),
        ("2\u03bcs", 2000),
        ("7ns", 7),
        ("0.1ns", 0),
        ("-1h", -HOUR_NS),
        ("+1h", HOUR_NS),
        ("0" * 100 + "1s", SECOND_NS),
        ("0." + "3" * 100 + "s", 333_333_333),
        ("2562047h47m16.854775807s", MAX_NS),
        ("-2562047h47m16.854775808s", MIN_NS),
    ],
)
def test_duration_is_read_as_go_reads_it(text: str, expected_ns: int) -> None:
    assert parse_duration(text) == expected_ns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'invalid duration ""'),
        ("-", 'invalid duration "-"'),
        ("h", 'invalid duration "h"'),
        (".h", 'invalid duration ".h"'),
        (".", 'invalid duration "."'),
        ("1.2.3s", "missing unit"),
        ("5", 'missing unit in duration "5"'),
        ("1h5", 'missing unit in duration "1h5"'),
        ("1d", 'unknown unit "d" in duration "1d"'),
        ("1h ago", 'unknown unit "h ago"'),
        ("1h 30m", 'unknown unit "h "'),
        ("1H", 'unknown unit "H"'),
        ("1e3s", 'unknown unit "e"'),
        ("٣h", 'invalid duration "٣h"'),
        ("--1h", 'invalid duration "--1h"'),
        ("1h-1m", 'unknown unit "h-"'),
        ("9999999999999999999h", 'invalid duration "9999999999999999999h"'),
        ("99999999999999999999h", 'invalid duration "99999999999999999999h"'),
        ("2562047h47m16.854775808s", "invalid duration"),
        ("-2562047h47m16.854775809s", "invalid duration"),
    ],
)
def test_other_text_is_refused_in_gos_words(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^time: ") as refusal:
        parse_duration(text)
    assert words in str(refusal.value)


def test_duration_is_read_once_however_long_it_is() -> None:
    """Quadratic work on this many digits would take hours."""
    with pytest.raises(InvalidArgumentError, match="invalid duration"):
        parse_duration("1" * 4_000_000)
    with pytest.raises(InvalidArgumentError, match="invalid duration"):
        parse_duration("1" * 4_000_000 + "h")
    assert parse_duration("1h" * 1_000_000) == 1_000_000 * HOUR_NS


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "Less than a second"),
        (0.9, "Less than a second"),
        (-5, "Less than a second"),  # a clock that was set back
        (1, "1 second"),
        (45, "45 seconds"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (3 * MINUTE, "3 minutes"),
        (59 * MINUTE, "59 minutes"),
        (60 * MINUTE, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (2 * 365 * DAY, "2 years"),
    ],
)
def test_durations_are_said_as_docker_says_them(seconds: float, expected: str) -> None:
    assert human_duration(seconds) == expected


def test_unknown_time_and_a_clock_that_went_back_have_words() -> None:
    assert ago(0, 100) == "N/A"
    assert ago(200, 100) == "Less than a second ago"


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (2 * 10**6, "2ms"), (1_500_000_000, "1.5s"), (3600 * 10**9, "1h0m0s")],
)
def test_durations_are_written_as_go_does(duration_ns: int, text: str) -> None:
    assert go_duration(duration_ns) == text
