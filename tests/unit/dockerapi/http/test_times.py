"""Times and durations in Docker's forms."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from dockerapi.http.times import NEVER, human_duration, parse_point, rfc3339, rfc3339_fixed, rfc3339_known
from sampan.errors import InvalidArgumentError

MINUTE, HOUR, DAY = 60, 3600, 86400


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


def test_a_time_that_is_not_set_is_go_s_zero_time() -> None:
    assert rfc3339(Timestamp()) == NEVER


@pytest.mark.parametrize(
    ("nanos", "expected"),
    [(0, "1970-01-01T00:00:10Z"), (500_000_000, "1970-01-01T00:00:10.5Z"), (1, "1970-01-01T00:00:10.000000001Z")],
)
def test_trailing_zeros_are_left_out(nanos: int, expected: str) -> None:
    assert rfc3339(Timestamp(seconds=10, nanos=nanos)) == expected


def test_time_that_is_known_may_be_zero() -> None:
    assert rfc3339(Timestamp()) == NEVER
    assert rfc3339_known(Timestamp()) == "1970-01-01T00:00:00Z"
    assert rfc3339_known(Timestamp(seconds=-1, nanos=500_000_000)) == "1969-12-31T23:59:59.5Z"


def test_log_lines_have_all_nine_digits() -> None:
    assert rfc3339_fixed(Timestamp(seconds=10)) == "1970-01-01T00:00:10.000000000Z"


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("1700000000", 1_700_000_000, 0),
        ("1700000000.25", 1_700_000_000, 250_000_000),
        ("1700000000.000000001", 1_700_000_000, 1),
        ("2023-11-14T22:13:20Z", 1_700_000_000, 0),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000, 500_000_000),
    ],
)
def test_points_in_time_are_seconds_or_rfc_3339(text: str, seconds: int, nanos: int) -> None:
    assert parse_point(text, "since") == Timestamp(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize("text", ["", "0"])
def test_no_point_in_time(text: str) -> None:
    assert parse_point(text, "since") is None


@pytest.mark.parametrize("text", ["yesterday", "99999999999999999999", "2023-99-14T22:13:20Z", "1.2.3"])
def test_other_text_is_no_point_in_time(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid value for until"):
        parse_point(text, "until")
