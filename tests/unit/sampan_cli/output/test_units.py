import pytest

from sampan_cli.output.units import ago, binary_size, human_duration, human_size, rfc3339, rfc3339_fixed

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (13_256, "13.26kB"), (2_036_789_000, "2.037GB"), (10**19, "10EB")],
)
def test_sizes_are_in_powers_of_1000(size: int, text: str) -> None:
    assert human_size(size) == text


def test_memory_is_in_powers_of_1024() -> None:
    assert binary_size(64 << 20) == "64MiB"
    assert binary_size(1_500) == "1.465KiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations_are_rounded_as_docker_rounds_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_unknown_time_and_a_clock_that_went_back_have_words() -> None:
    assert ago(0, 100) == "N/A"
    assert ago(200, 100) == "Less than a second ago"


def test_times_keep_nanoseconds_and_logs_keep_zeros() -> None:
    assert rfc3339(1, 120) == "1970-01-01T00:00:01.00000012Z"
    assert rfc3339(1, 0) == "1970-01-01T00:00:01Z"
    assert rfc3339_fixed(1, 120) == "1970-01-01T00:00:01.000000120Z"
