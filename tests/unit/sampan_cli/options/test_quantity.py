import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.options.quantity import duration_ns, nano_cpus, point_in_time_ns, size_bytes

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512m", 512 << 20),
        ("1.5G", 3 << 29),
        ("2GiB", 2 << 30),
        ("10 kb", 10 << 10),
        ("5b", 5),
    ],
)
def test_sizes_have_units_of_1024(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1mm", "0x10", "1e3"])
def test_bad_size_is_quoted(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid size: '{text}'"):
        size_bytes(text)


def test_cpus_are_exact() -> None:
    assert nano_cpus("1.5") == 1_500_000_000
    assert nano_cpus("0.000000001") == 1


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "0.0000000001"])
def test_bad_cpus_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        nano_cpus(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5s", 1_500_000_000),
        ("300ms", 300_000_000),
        ("2us", 2000),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int) -> None:
    assert duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1h 30m", "-"])
def test_bad_duration_is_quoted(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid duration"):
        duration_ns(text)


def test_point_in_time_is_absolute_unix_or_a_duration_ago() -> None:
    now_ns = 1_800_000_000 * SECOND
    assert point_in_time_ns("2026-01-02T13:23:37Z", now_ns) == 1_767_360_217 * SECOND
    assert point_in_time_ns("2026-01-02T13:23:37.5+01:00", now_ns) == 1_767_356_617 * SECOND + 500_000_000
    assert point_in_time_ns("1767360217.25", now_ns) == 1_767_360_217 * SECOND + 250_000_000
    assert point_in_time_ns("10m", now_ns) == now_ns - 600 * SECOND
    with pytest.raises(InvalidArgumentError, match="invalid time 'yesterday'"):
        point_in_time_ns("yesterday", now_ns)
    with pytest.raises(InvalidArgumentError, match="invalid time"):
        point_in_time_ns("2026-13-45", now_ns)
