"""What a push tells its client while it goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from sampan.oci.digest import Digest
from sampan.resource.transfer import PushStep

# Ten a second and layer are more than a person can read.
_INTERVAL_S: Final = 0.1


class Steps:
    """The newest step of each layer, until the client takes it: a slow one misses steps and delays nobody."""

    def __init__(self) -> None:
        self._newest: dict[Digest, PushStep] = {}
        self._wake = asyncio.Event()
        self._over = asyncio.Event()

    def post(self, step: PushStep) -> None:
        """Note a layer's step."""
        self._newest[step.digest] = step
        self._wake.set()

    def end(self) -> None:
        """Let ``take`` end once everything is taken."""
        self._over.set()
        self._wake.set()

    async def take(self) -> AsyncIterator[PushStep]:
        """Yield what is new until ``end``."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            newest, self._newest = self._newest, {}
            for step in newest.values():
                yield step
            if self._over.is_set() and not self._newest:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await self._over.wait()
