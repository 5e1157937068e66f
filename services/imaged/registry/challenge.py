"""``WWW-Authenticate``: how a registry wants to be asked.

Reference: RFC 9110, sections 11.3 and 11.6.1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME: Final = re.compile(rf"\s*({_WORD})(?=\s|,|$)")
_SEPARATOR: Final = re.compile(r"\s*,\s*|\s+")
_MAX_LENGTH: Final = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme, in lower case, and its parameters."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Return a parameter, empty if it is not there."""
        return next((value for key, value in self.parameters if key == name), "")

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """Return the challenges of a header, or of several joined by commas; what makes no sense is skipped."""
        return tuple(cls._scan(text[:_MAX_LENGTH]))

    @classmethod
    def _scan(cls, text: str) -> Iterator[Self]:
        scheme = ""
        parameters: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            # "a=b" goes with the scheme before it; a word without "=" begins the next challenge.
            if scheme and (match := _PARAMETER.match(text, position)):
                quoted = match[2]
                value = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.append((match[1].lower(), value))
            elif match := _SCHEME.match(text, position):
                if scheme:
                    yield cls(scheme, tuple(parameters))
                scheme, parameters = match[1].lower(), []
            else:
                match = _SEPARATOR.match(text, position)
            position = match.end() if match else position + 1
        if scheme:
            yield cls(scheme, tuple(parameters))
