"""How many connections download at the same time: in all, and from one registry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Hands out connections; whoever waits is served in order."""

    def __init__(self, in_all: int, per_registry: int) -> None:
        self._in_all = asyncio.Semaphore(in_all)
        self._per_registry = per_registry
        self._by_registry: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def one(self, registry: str, most: int = 0) -> AsyncIterator[None]:
        """Hold a connection to ``registry``, which allows ``most`` of them; 0 means as many as any other."""
        async with self._of(registry, most), self._in_all:
            yield

    def are_free(self, registry: str, most: int = 0) -> bool:
        """Say whether ``one`` would not wait."""
        return not (self._of(registry, most).locked() or self._in_all.locked())

    def _of(self, registry: str, most: int) -> asyncio.Semaphore:
        if registry not in self._by_registry:
            self._by_registry[registry] = asyncio.Semaphore(most or self._per_registry)
        return self._by_registry[registry]
