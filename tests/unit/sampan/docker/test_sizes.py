"""Sizes: Docker's units, read and written."""

import pytest

from sampan.docker.sizes import binary_size, human_size, parse_decimal_size, parse_size
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512m", 512 << 20),
        ("1.5G", 3 << 29),
        (".5k", 512),
        ("2GiB", 2 << 30),
        ("10 kb", 10 << 10),
        ("1kiB", 1 << 10),
        ("5b", 5),
        ("5B", 5),
        ("1p", 1 << 50),
        ("7 ", 7),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes_have_units_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "m", "-1", "1x", "1mm", "0x10", "1e3", "1ib", " 1", "1  k", "1k ", ".", ".k", "1.2.3", "٣", "nan",
     "8388608t", "9223372036854775808", "99999999999999999999", "9" * 500],
)  # fmt: skip
def test_bad_size_is_quoted(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_size(text)
    assert str(refusal.value).startswith(f"invalid size: '{text[:200]}'")


def test_sizes_of_logs_have_units_of_1000() -> None:
    assert parse_decimal_size("10m") == 10_000_000
    assert parse_decimal_size("1.5kB") == 1500


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4096, "4.096kB"), (13_256, "13.26kB"), (123_456_789, "123.5MB"),
     (2_036_789_000, "2.037GB"), (10**19, "10EB")],
)  # fmt: skip
def test_sizes_are_shown_in_powers_of_1000(size: int, text: str) -> None:
    assert human_size(size) == text


def test_memory_is_shown_in_powers_of_1024() -> None:
    assert binary_size(64 << 20) == "64MiB"
    assert binary_size(1_500) == "1.465KiB"
