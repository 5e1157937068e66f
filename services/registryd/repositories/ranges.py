"""Ranges of bytes, as downloads ask for them and as uploads are cut.

Reference: RFC 9110, "Range Requests"; OCI distribution spec 1.1, "Pushing a blob in chunks", whose Content-Range has no
unit and no total.
"""

import re
from dataclasses import dataclass
from typing import Final

from registryd.repositories.refusal import Code, RefusedError

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """``size`` bytes from ``first``."""

    first: int
    size: int

    def header(self, total: int) -> str:
        """Return the value of Content-Range."""
        return f"bytes {self.first}-{self.first + self.size - 1}/{total}"


def parse_range(header: str | None, total: int) -> Span | None:
    """Return the part of ``total`` bytes that is asked for, None for all of them.

    What is no range of bytes, or several of them, is answered with everything, as the RFC lets a server.

    Raises:
        RefusedError: RANGE_INVALID, for one that begins behind the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        size = min(int(last), total)
        span = Span(total - size, size)
    elif last and int(last) < int(first):
        return None
    else:
        span = Span(int(first), min(int(last or total), total - 1) - int(first) + 1)
    if span.size <= 0:
        raise RefusedError(
            Code.RANGE_INVALID, f"range {header} of a blob of {total} bytes", {"Content-Range": f"bytes */{total}"}
        )
    return span


def parse_content_range(header: str | None, length: int | None) -> int | None:
    """Return where an upload's chunk begins, None if that is not said.

    Raises:
        RefusedError: BLOB_UPLOAD_INVALID, for what is no range or does not fit the chunk's length.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise RefusedError(Code.BLOB_UPLOAD_INVALID, f"Content-Range {header[:80]!r}: expected <first>-<last>")
    first, last = int(match[1]), int(match[2])
    # An empty chunk cannot be written as a range; clients write 0-0 or 0--1 for it, or leave it away.
    if length is not None and length != last - first + 1 and not (length == 0 and last == first):
        raise RefusedError(Code.BLOB_UPLOAD_INVALID, f"Content-Range {header[:80]} with {length} bytes")
    return first
