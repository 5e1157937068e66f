"""Sizes as people write and read them, in the words of Docker's units."""

import re
from typing import Final

from sampan.errors import InvalidArgumentError

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_SIZE: Final = re.compile(r"([0-9]{0,30}+)(?:\.([0-9]{0,30}+))? ?([^0-9. ]*+)")
_EXPONENTS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SUFFIX: Final = re.compile(r"([kmgtp]?)(?:b|(?<=[kmgtp])ib)?")
_MAX_INT64: Final = 2**63 - 1


def parse_size(text: str) -> int:
    """Return the bytes of ``512m``, ``1.5GiB`` or ``1024``: memory and the like, in powers of 1024.

    Raises:
        InvalidArgumentError: in Docker's words, for what is no size or none that an int64 holds.
    """
    return _parsed(text, 1024)


def parse_decimal_size(text: str) -> int:
    """Return the bytes of ``10m`` in powers of 1000, in which Docker counts the sizes of logs. Raises as parse_size."""
    return _parsed(text, 1000)


def _parsed(text: str, base: int) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise InvalidArgumentError(f"invalid size: '{text[:200]}'")
    suffix = _SUFFIX.fullmatch(match[3].lower())
    if suffix is None:
        raise InvalidArgumentError(f"invalid size: '{text[:200]}': invalid suffix: '{match[3][:200]}'")
    fraction = match[2] or ""
    unit: int = base ** _EXPONENTS[suffix[1]]
    scale: int = 10 ** len(fraction)
    size = int(f"{match[1]}{fraction}") * unit // scale
    if size > _MAX_INT64:
        raise InvalidArgumentError(f"invalid size: '{text}': it is more than {_MAX_INT64} bytes")
    return size


def human_size(size_bytes: float, digits: int = 4) -> str:
    """Return ``13.26kB``, in powers of 1000."""
    return _scaled(size_bytes, 1000, _DECIMAL, digits)


def binary_size(size_bytes: float, digits: int = 4) -> str:
    """Return ``12.95KiB``, in powers of 1024."""
    return _scaled(size_bytes, 1024, _BINARY, digits)


def _scaled(size: float, base: int, units: tuple[str, ...], digits: int) -> str:
    exponent = 0
    while size >= base and exponent < len(units) - 1:
        size /= base
        exponent += 1
    return f"{size:.{digits}g}{units[exponent]}"
