"""What imaged counts of pushes. Labels are bounded: never a name, an ID or a digest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PushMetrics:
    """The ``sampan_image_push…`` series."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._bytes = Counter(
            "sampan_image_push_bytes", "Bytes of image content pushed, by phase.", ["phase"], registry=metrics
        )
        self._seconds = Histogram(
            "sampan_image_push_seconds",
            "Time spent on a push, by phase; upload is per blob.",
            ["phase"],
            registry=metrics,
            buckets=_BUCKETS,
        )
        self._pushes = Counter("sampan_image_pushes", "Pushes ended, by outcome.", ["outcome"], registry=metrics)
        self._in_flight = Gauge("sampan_image_pushes_in_flight", "Pushes under way.", registry=metrics)
        self._retries = Counter("sampan_image_push_retries", "Uploads tried again.", registry=metrics)
        for outcome in ("pushed", "failed", "cancelled"):
            self._pushes.labels(outcome)
        for phase in ("upload", "manifest"):
            self._seconds.labels(phase)

    def add_bytes(self, phase: str, count: int) -> None:
        """Count bytes that were uploaded, or mounted, or found to be there."""
        self._bytes.labels(phase).inc(count)

    def retry(self) -> None:
        """Count an upload that is tried again."""
        self._retries.inc()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Time a phase; one that fails is not counted."""
        begin = time.monotonic()
        yield
        self._seconds.labels(phase).observe(time.monotonic() - begin)

    @contextmanager
    def push(self) -> Iterator[None]:
        """Count a push and how it ends."""
        outcome = "cancelled"
        with self._in_flight.track_inprogress():
            try:
                yield
                outcome = "pushed"
            except Exception:
                outcome = "failed"
                raise
            finally:
                self._pushes.labels(outcome).inc()
