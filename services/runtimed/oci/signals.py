"""Signals by the names that Docker takes."""

import signal
from typing import Final

from sampan.errors import InvalidArgumentError

_MAX: Final = 64


def _names() -> dict[str, int]:
    names = {member.name.removeprefix("SIG"): member.value for member in signal.Signals}
    lowest, highest = names["RTMIN"], names["RTMAX"]
    names |= {f"RTMIN+{n}": lowest + n for n in range(1, 16)}
    names |= {f"RTMAX-{n}": highest - n for n in range(1, 15)}
    return names


SIGNALS: Final = _names()


def parse_signal(text: str) -> int:
    """Return the number of ``text``: ``SIGTERM``, ``term`` or ``15``.

    Raises:
        InvalidArgumentError: there is no such signal; in Docker's words.
    """
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) < 4 else 0
        if 1 <= number <= _MAX:
            return number
    name = text.upper().removeprefix("SIG")
    if name not in SIGNALS:
        raise InvalidArgumentError(f"invalid signal: {text}")
    return SIGNALS[name]
