"""Which bytes of a blob are here."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Bytes from ``start`` up to and without ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.end - self.start


class Ranges:
    """A set of bytes, kept as few ranges in order, none touching the next."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for one in ranges:
            self.add(one)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, new: Range) -> None:
        """Take in a range; what of it is here already counts once."""
        if not new.size:
            return
        before = [one for one in self._ranges if one.end < new.start]
        after = [one for one in self._ranges if one.start > new.end]
        touching = [new, *self._ranges[len(before) : len(self._ranges) - len(after)]]
        merged = Range(min(one.start for one in touching), max(one.end for one in touching))
        self._ranges = [*before, merged, *after]

    @property
    def size(self) -> int:
        """How many bytes are here in all."""
        return sum(one.size for one in self._ranges)

    @property
    def prefix_end(self) -> int:
        """Up to where everything from the first byte on is here."""
        return self._ranges[0].end if self._ranges and self._ranges[0].start == 0 else 0

    def missing(self, within: Range) -> list[Range]:
        """Return what is not here of ``within``, in order."""
        gaps = []
        position = within.start
        for one in self._ranges:
            if one.end <= position:
                continue
            if one.start >= within.end:
                break
            if one.start > position:
                gaps.append(Range(position, one.start))
            position = one.end
        if position < within.end:
            gaps.append(Range(position, within.end))
        return gaps
