"""The labels that keep content in imaged, one for each row here; a label's value is the repository."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ROOT_PREFIX: Final = "containerd.io/gc.root.registry-"


class Roots:
    """Knows which labels are being set and have no row yet; every other label without a row belongs to nobody.

    That is exact, because one process at a time serves a registry: a label may still appear after the process that
    asked for it was killed, and no other process would ever give it a row.
    """

    def __init__(self) -> None:
        self._pending: set[str] = set()

    @contextmanager
    def issued(self) -> Iterator[str]:
        """Give out a label that nobody has used, for a block that sets it and records its row."""
        root = ROOT_PREFIX + secrets.token_hex(8)
        self._pending.add(root)
        try:
            yield root
        finally:
            self._pending.discard(root)

    def pending(self) -> frozenset[str]:
        """Return the labels whose blocks have not ended."""
        return frozenset(self._pending)
