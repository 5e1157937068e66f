"""What a pull tells its client while it goes on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from imaged.model import LayerProgress, Phase, Resolved
from sampan.oci.digest import Digest

# Ten a second and layer are more than a person can read.
_INTERVAL_S: Final = 0.1

Step = Resolved | LayerProgress


class Progress:
    """Holds the newest state of each layer until the client takes it: a slow one misses steps and delays nobody."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ready: dict[Digest | None, Step] = {}
        self._sent: dict[Digest, tuple[Phase, float]] = {}
        self._wake = asyncio.Event()
        self._ended = False

    def resolved(self, resolved: Resolved) -> None:
        """Say what there is to bring; every layer waits."""
        self._ready[None] = resolved
        for layer in resolved.layers:
            descriptor = layer.descriptor
            self._sent[descriptor.digest] = (Phase.WAITING, 0.0)
            self._ready[descriptor.digest] = LayerProgress(descriptor.digest, Phase.WAITING, 0, descriptor.size)
        self._wake.set()

    def post(self, step: LayerProgress) -> None:
        """Note a layer's step; a further one of the same phase within a tenth of a second is left out."""
        now = self._monotonic()
        phase, sent_s = self._sent.get(step.digest, (Phase.WAITING, 0.0))
        if step.phase is phase and now - sent_s < _INTERVAL_S:
            return
        self._sent[step.digest] = (step.phase, now)
        self._ready[step.digest] = step
        self._wake.set()

    def end(self) -> None:
        """Let ``steps`` end once everything is taken."""
        self._ended = True
        self._wake.set()

    async def steps(self) -> AsyncIterator[Step]:
        """Yield what is new until ``end``."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            ready, self._ready = self._ready, {}
            for step in ready.values():
                yield step
            if self._ended and not self._ready:
                return
