"""What a pull tells its client while it goes on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from sampan.oci.digest import Digest
from sampan.resource.transfer import FetchPhase, FetchResolved, FetchStep

# Ten a second and layer are more than a person can read.
_INTERVAL_S: Final = 0.1

Step = FetchResolved | FetchStep


class Watcher(Protocol):
    """Whoever counts a pull's steps."""

    def resolved(self, resolved: FetchResolved) -> None:
        """All layers are known."""

    def post(self, step: FetchStep) -> None:
        """A layer has come further."""


class Progress:
    """Holds the newest state of each layer until the client takes it: a slow one misses steps and delays nobody."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ready: dict[Digest | None, Step] = {}
        self._held: dict[Digest, FetchStep] = {}
        self._sent: dict[Digest, tuple[FetchPhase, float]] = {}
        self._wake = asyncio.Event()
        self._ended = False
        self._watchers: list[Watcher] = []

    def watch(self, watcher: "Watcher") -> None:
        """Tell ``watcher`` everything too, at once."""
        self._watchers.append(watcher)

    def resolved(self, resolved: FetchResolved) -> None:
        """Say what there is to fetch; every layer waits."""
        for watcher in self._watchers:
            watcher.resolved(resolved)
        self._ready[None] = resolved
        for layer in resolved.layers:
            descriptor = layer.descriptor
            self._sent[descriptor.digest] = (FetchPhase.WAITING, 0.0)
            self._ready[descriptor.digest] = FetchStep(descriptor.digest, FetchPhase.WAITING, 0, descriptor.size)
        self._wake.set()

    def post(self, step: FetchStep) -> None:
        """Note a layer's step; of those of one phase only the newest is sent, every tenth of a second."""
        for watcher in self._watchers:
            watcher.post(step)
        phase, sent_s = self._sent.get(step.digest, (FetchPhase.WAITING, 0.0))
        if step.phase is phase and self._monotonic() < sent_s + _INTERVAL_S:
            self._held[step.digest] = step
        else:
            self._send(step)
        self._wake.set()

    def _send(self, step: FetchStep) -> None:
        self._held.pop(step.digest, None)
        self._sent[step.digest] = (step.phase, self._monotonic())
        self._ready[step.digest] = step

    def end(self) -> None:
        """Let ``steps`` end once everything is taken."""
        self._ended = True
        self._wake.set()

    async def steps(self) -> AsyncIterator[Step]:
        """Yield what is new until ``end``."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_due_s()):
                    await self._wake.wait()
            self._wake.clear()
            self._send_due()
            ready, self._ready = self._ready, {}
            for step in ready.values():
                yield step
            if self._ended and not self._ready:
                return

    def _next_due_s(self) -> float | None:
        """Return how long until a step that is held back may be sent."""
        due_s = [self._sent[digest][1] + _INTERVAL_S for digest in self._held]
        return max(0.0, min(due_s) - self._monotonic()) if due_s else None

    def _send_due(self) -> None:
        now_s = self._monotonic()
        for step in tuple(self._held.values()):
            if self._ended or now_s >= self._sent[step.digest][1] + _INTERVAL_S:
                self._send(step)
