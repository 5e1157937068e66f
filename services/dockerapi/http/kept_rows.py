"""Rows of lists, each written once as long as what it is about does not change.

Lists are asked for again and again, and of hundreds of objects hardly one is another than it was.
"""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

# As many as clients of services keep decoded: what has not changed is the same object then.
_KEPT: Final = 2048

B = TypeVar("B", bound=bytes)
K = TypeVar("K", bound=Hashable)


class KeptRows(Generic[K, B]):
    """Rows that were written before, each in pieces, for as long as what they are about is the same object.

    Of many the one goes that was not used for longest. Large ones are few, and are not kept.
    """

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._rows: dict[K, tuple[object, tuple[B, ...]]] = {}  # the one that was not used for longest first

    def pieces(self, key: K, about: object, write: Callable[[], tuple[B, ...]]) -> tuple[B, ...]:
        """Return the row of ``key`` about an object, which ``write`` makes if it is not kept."""
        kept = self._rows.pop(key, None)
        if kept is None or kept[0] is not about:
            kept = about, write()
        if sum(map(len, kept[1])) <= self._largest_bytes:
            self._rows[key] = kept
            if len(self._rows) > _KEPT:
                del self._rows[next(iter(self._rows))]
        return kept[1]
