"""What somebody asks for while a pass of garbage collection is under way: the pass leaves it alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Wanted:
    """Names of stacks and layers. Asked on the event loop, looked at on the store's thread as well."""

    def __init__(self) -> None:
        self._asked: set[str] | None = None  # None: nobody looks

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is asked for during the block; one block at a time."""
        assert self._asked is None
        self._asked = set()
        try:
            yield
        finally:
            self._asked = None

    def ask(self, names: Iterable[str]) -> None:
        """Say so before anything else is done: what a pass removes after that is not among them."""
        if self._asked is not None:
            self._asked.update(names)

    def __contains__(self, name: object) -> bool:
        return self._asked is not None and name in self._asked
