"""Content addresses.

Reference: OCI image spec 1.1, "Digests".
"""

import hashlib
import re
from typing import Final, Self

from sampan.errors import InvalidArgumentError

# sha512 is registered too, but no registry or client in the field sends it.
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """A string known to be ``sha256:`` and 64 lower-case hex digits, and so safe as a file name."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise InvalidArgumentError for anything that is not a SHA-256 digest."""
        if not _SHA256.fullmatch(text):
            shown = text if len(text) <= 80 else f"{text[:80]}…"
            raise InvalidArgumentError(f"invalid digest {shown!r}: expected sha256: and 64 lower-case hex digits")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the digest of ``data``."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}")

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the digest whose hex part is ``text``."""
        return cls.parse(f"sha256:{text}")

    @property
    def hex(self) -> str:
        """The 64 hex digits."""
        return self[7:]

    @property
    def short(self) -> str:
        """The 12 hex digits that Docker shows."""
        return self[7:19]
