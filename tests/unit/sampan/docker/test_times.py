"""Points in time, in each form that Docker's clients send, and as they are sent back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sampan.docker.times import (
    NEVER,
    local_moment,
    local_time,
    parse_moment,
    parse_point,
    rfc3339,
    rfc3339_fixed,
    rfc3339_ns,
    to_ns,
    zoned,
)
from sampan.errors import InvalidArgumentError

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
NOW_NS = to_ns(datetime(2026, 5, 1, 12, tzinfo=UTC))
LAST_NS = 253_402_300_799 * SECOND_NS


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that is five and a half hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "IST-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "text",
    ["2h", "120m", "1h59m60s", "1777629600", "1777629600.000", "+1777629600", "2026-05-01T10:00:00Z", "2026-05-01T10Z",
     "2026-05-01T10:00Z", "2026-05-01T12:00:00+02:00", "2026-05-01T12:00+02:00", "2026-05-01T03:00:00.0-07:00"],
)  # fmt: skip
def test_moment_is_read_in_every_form_that_docker_takes(text: str) -> None:
    assert parse_moment(text, NOW_NS) == NOW_NS - 2 * HOUR_NS


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        (".5h", NOW_NS - HOUR_NS // 2),
        ("-1h", NOW_NS + HOUR_NS),
        ("0", 0),
        ("0s", NOW_NS),
        ("1.5", 3 * SECOND_NS // 2),
        ("1.0000000019", SECOND_NS + 1),
        ("1970-01-01Z", 0),
        ("1970-01-01+01:00", -HOUR_NS),
        ("1970-01-01T00:00:00,25Z", SECOND_NS // 4),
        ("9223372036854775807", LAST_NS),  # further than any clock: the end of the year 9999
        ("9999-12-31T23:59:59-12:00", LAST_NS),
        ("0001-01-01T00:00:00+12:00", -62_135_596_800 * SECOND_NS),
    ],
)
def test_moment_is_read_exactly(text: str, expected_ns: int) -> None:
    assert parse_moment(text, NOW_NS) == expected_ns


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    "text",
    ["2026-05-01", "2026-05-01T00", "2026-05-01T00:00", "2026-05-01T00:00:00", "2026-05-01T00:00:00.0",
     "2026-04-30T18:30:00Z"],
)  # fmt: skip
def test_date_without_a_zone_is_local(text: str) -> None:
    assert parse_moment(text, NOW_NS) == to_ns(datetime(2026, 4, 30, 18, 30, tzinfo=UTC))


@pytest.mark.usefixtures("zone")
def test_date_without_a_zone_can_be_read_in_another_one() -> None:
    assert parse_moment("2026-05-01", NOW_NS, -3600) == to_ns(datetime(2026, 5, 1, 1, tzinfo=UTC))
    assert parse_moment("2026-05-01T00:00:00Z", NOW_NS, -3600) == to_ns(datetime(2026, 5, 1, tzinfo=UTC))


@pytest.mark.usefixtures("zone")
def test_a_moment_is_told_in_the_local_zone() -> None:
    assert zoned(datetime(2026, 5, 1, 1, 2, 3, 400_000, tzinfo=UTC)) == "2026-05-01T06:32:03.400000+05:30"


def test_a_moment_in_utc_is_told_as_docker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC0")
        time.tzset()
        assert zoned(datetime(2026, 5, 1, tzinfo=UTC)) == "2026-05-01T00:00:00Z"
    time.tzset()


@pytest.mark.parametrize(
    "text",
    ["yesterday", "", "9" * 20, "9223372036854775808", "9" * 400, "9999999999999999999h", "9" * 30 + "h", "1e400",
     "1.", "nan", "1h\0", "1h ", "٣h", "1h ago", "1d", "0x10", "1_000", "h", "\ud800"],
)  # fmt: skip
def test_what_is_no_moment_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_moment(text, NOW_NS)
    assert str(refusal.value).startswith("failed to parse value as time or duration: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-13-01", "month out of range"),
        ("2026-02-30", "day out of range"),
        ("2026-01-00", "day out of range"),
        ("2026-01-01T24:00:00Z", "hour out of range"),
        ("2026-01-01T00:60", "minute out of range"),
        ("2026-01-01T00:00:60", "second out of range"),
        ("0000-01-01", "out of range"),
        ("-1", "cannot parse"),
        ("-1.5", "cannot parse"),
        ("2026-01-01T", "cannot parse"),
        ("2026-01-01 10:00:00", "cannot parse"),
        ("2026-01-01T10:00:00+02", "cannot parse"),
        ("2026-01-01t10:00:00z", "cannot parse"),
        ("2026-1-1", "cannot parse"),
    ],
)
def test_what_is_no_date_is_refused_by_its_name(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_moment(text, NOW_NS)
    assert f'parsing time "{text}"' in str(refusal.value)
    assert words in str(refusal.value)


def test_moment_is_read_once_however_long_it_is() -> None:
    for text in ("1" * 4_000_000, "1." + "1" * 4_000_000 + "x", "0" * 4_000_000 + "x"):
        with pytest.raises(InvalidArgumentError):
            parse_moment(text, NOW_NS)
    assert parse_moment("1." + "1" * 4_000_000, NOW_NS) == 1_111_111_111


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("", 0),
        ("0", 0),
        ("1700000000", 1_700_000_000 * SECOND_NS),
        ("1700000000.25", 1_700_000_000 * SECOND_NS + 250_000_000),
        ("1700000000.000000001", 1_700_000_000 * SECOND_NS + 1),
        ("-1.5", -3 * SECOND_NS // 2),
        ("9223372036854775807", LAST_NS),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND_NS),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * SECOND_NS + 500_000_000),
    ],
)
def test_a_request_s_point_in_time_is_seconds_or_rfc_3339(text: str, expected_ns: int) -> None:
    assert parse_point(text, "since") == expected_ns


@pytest.mark.parametrize(
    "text", ["yesterday", "9" * 20, "1h", "2023-99-14T22:13:20Z", "1.2.3", "1.", ".5", " 1", "1e3"]
)
def test_other_text_is_no_point_in_time(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_point(text, "until")
    assert str(refusal.value) == f'invalid value for until: "{text}" is neither seconds nor RFC 3339'


def test_a_time_that_is_not_set_is_go_s_zero_time() -> None:
    assert rfc3339(None) == NEVER


def test_trailing_zeros_are_left_out() -> None:
    assert rfc3339(datetime(2026, 5, 1, 12, 0, 0, 500_000, UTC)) == "2026-05-01T12:00:00.5Z"
    assert rfc3339_ns(0) == "1970-01-01T00:00:00Z"
    assert rfc3339_ns(10 * SECOND_NS) == "1970-01-01T00:00:10Z"
    assert rfc3339_ns(10 * SECOND_NS + 1) == "1970-01-01T00:00:10.000000001Z"
    assert rfc3339_ns(-SECOND_NS // 2) == "1969-12-31T23:59:59.5Z"


def test_log_lines_have_all_nine_digits() -> None:
    assert rfc3339_fixed(10 * SECOND_NS) == "1970-01-01T00:00:10.000000000Z"
    assert rfc3339_fixed(SECOND_NS + 120) == "1970-01-01T00:00:01.000000120Z"


@pytest.mark.usefixtures("zone")
def test_lists_show_local_times_with_the_fraction_that_they_have() -> None:
    assert local_time(0) == "1970-01-01 05:30:00 +0530 IST"
    assert local_moment(datetime(2026, 5, 1, tzinfo=UTC)) == "2026-05-01 05:30:00 +0530 IST"
    assert local_moment(datetime(2026, 5, 1, 0, 0, 0, 250_000, UTC)) == "2026-05-01 05:30:00.25 +0530 IST"
