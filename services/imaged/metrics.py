"""What imaged counts. Labels are bounded: never a name, an ID or a digest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From an image that is here already to a large one over a slow line.
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PullMetrics:
    """The ``sampan_image_pull…`` series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Counter(
            "sampan_image_pull_bytes", "Bytes of image content pulled, by phase.", ["phase"], registry=registry
        )
        self._seconds = Histogram(
            "sampan_image_pull_seconds",
            "Time spent on a pull, by phase; download and commit are per blob.",
            ["phase"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._pulls = Counter("sampan_image_pulls", "Pulls ended, by outcome.", ["outcome"], registry=registry)
        self._in_flight = Gauge("sampan_image_pulls_in_flight", "Pulls under way.", registry=registry)
        self._retries = Counter("sampan_image_pull_retries", "Requests to registries tried again.", registry=registry)
        for outcome in ("fetched", "failed", "cancelled"):
            self._pulls.labels(outcome)
        for phase in ("resolve", "download", "commit"):
            self._seconds.labels(phase)

    def add_bytes(self, phase: str, count: int) -> None:
        """Count bytes that were downloaded, or committed, or found to be here."""
        self._bytes.labels(phase).inc(count)

    def retry(self) -> None:
        """Count a request that is tried again."""
        self._retries.inc()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Time a phase; one that fails is not counted."""
        begin = time.monotonic()
        yield
        self._seconds.labels(phase).observe(time.monotonic() - begin)

    @contextmanager
    def pull(self) -> Iterator[None]:
        """Count a pull and how it ends."""
        outcome = "cancelled"
        with self._in_flight.track_inprogress():
            try:
                yield
                outcome = "fetched"
            except Exception:
                outcome = "failed"
                raise
            finally:
                self._pulls.labels(outcome).inc()
