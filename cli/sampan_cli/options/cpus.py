"""``--cpus``."""

from decimal import Decimal, InvalidOperation

from sampan.errors import InvalidArgumentError


def nano_cpus(text: str) -> int:
    """Parse a number of CPUs such as ``1.5``.

    Raises:
        InvalidArgumentError: not a number, negative, or finer than a billionth.
    """
    try:
        nano = Decimal(text) * 10**9
    except InvalidOperation:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number") from None
    if not nano.is_finite() or nano < 0:
        raise InvalidArgumentError(f"failed to parse {text} as a rational number")
    if nano != int(nano):
        raise InvalidArgumentError("value is too precise")
    return int(nano)
