"""How far a pull is, and how long it will take."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from sampan.oci.digest import Digest
from sampan.resource.transfer import FetchPhase, FetchResolved, FetchStep

# The speed that the time left is reckoned with is that of so many seconds: a line that slows down shows soon.
_WINDOW_S: Final = 15.0

_COUNTED: Final = frozenset({FetchPhase.DOWNLOADING, FetchPhase.VERIFYING, FetchPhase.COMMITTED, FetchPhase.EXISTED})
_HERE: Final = frozenset({FetchPhase.VERIFYING, FetchPhase.COMMITTED, FetchPhase.EXISTED})


class Tracker:
    """Sums up the layers of one pull. Asked now and then, told often."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._total = 0
        self._by_layer: dict[Digest, int] = {}
        self._done = 0  # bytes that are here
        self._moved = 0  # bytes that came over the line
        self._samples: deque[tuple[float, int]] = deque()

    def resolved(self, resolved: FetchResolved) -> None:
        """Learn what there is to fetch."""
        self._total = sum({layer.descriptor.digest: layer.descriptor.size for layer in resolved.layers}.values())
        self._samples.append((self._monotonic(), 0))

    def post(self, step: FetchStep) -> None:
        """Note how far a layer is."""
        if step.phase not in _COUNTED:
            return
        offset = step.total if step.phase in _HERE else step.offset
        gained = offset - self._by_layer.get(step.digest, 0)
        first = step.digest not in self._by_layer
        self._by_layer[step.digest] = offset
        self._done += gained
        # What was here before, whole or in part, says nothing about the line's speed.
        if not first:
            self._moved += max(0, gained)
        now_s = self._monotonic()
        if not self._samples or now_s - self._samples[-1][0] >= 1:
            self._samples.append((now_s, self._moved))
        while len(self._samples) > 2 and self._samples[1][0] < now_s - _WINDOW_S:
            self._samples.popleft()

    def ratio(self) -> float:
        """Return the part of the layers' bytes that is here, 0 to 1."""
        return min(1.0, self._done / self._total) if self._total else 0.0

    def left_s(self) -> float:
        """Return the seconds that the rest will take at the speed of late; NaN if nobody can know."""
        if self._total and self._done >= self._total:
            return 0.0
        if not self._samples:
            return float("nan")
        begin_s, moved = self._samples[0]
        speed = (self._moved - moved) / max(1e-3, self._monotonic() - begin_s)
        return (self._total - self._done) / speed if speed > 0 else float("nan")
