"""What imaged counts. Labels are bounded: never a name, an ID or a digest, but for the pulls that run just now."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from imaged.transfer.tracker import Tracker

# From an image that is here already to a large one over a slow line.
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


# Pulls whose progress is shown at the same time; more than anybody looks at.
_MAX_TRACKED: Final = 100


class PullMetrics:
    """The ``sampan_image_pull…`` series."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._bytes = Counter(
            "sampan_image_pull_bytes", "Bytes of image content pulled, by phase.", ["phase"], registry=metrics
        )
        self._seconds = Histogram(
            "sampan_image_pull_seconds",
            "Time spent on a pull, by phase; download and commit are per blob.",
            ["phase"],
            registry=metrics,
            buckets=_BUCKETS,
        )
        self._pulls = Counter("sampan_image_pulls", "Pulls ended, by outcome.", ["outcome"], registry=metrics)
        self._in_flight = Gauge("sampan_image_pulls_in_flight", "Pulls under way.", registry=metrics)
        self._retries = Counter("sampan_image_pull_retries", "Requests to registries tried again.", registry=metrics)
        self._speed = Gauge(
            "sampan_image_pull_bytes_per_second",
            "Throughput of the blob that was last fetched (download) or stored (commit).",
            ["phase"],
            registry=metrics,
        )
        self._connections = Gauge(
            "sampan_image_downloads_in_flight", "Connections that are downloading blobs.", registry=metrics
        )
        self._hits = Counter("sampan_image_pull_cache_hits", "Blobs of pulls that were here.", registry=metrics)
        self._misses = Counter("sampan_image_pull_cache_misses", "Blobs of pulls to download.", registry=metrics)
        self._progress = Gauge(
            "sampan_image_pull_progress_ratio",
            "Part of the layers' bytes that is here, of each pull under way.",
            ["image"],
            registry=metrics,
        )
        self._left = Gauge(
            "sampan_image_pull_left_seconds",
            "Time that each pull under way will take at its present speed; NaN while nothing comes.",
            ["image"],
            registry=metrics,
        )
        self._tracked: dict[str, list[Tracker]] = {}
        for outcome in ("fetched", "failed", "cancelled"):
            self._pulls.labels(outcome)
        for phase in ("resolve", "download", "commit"):
            self._seconds.labels(phase)
        for phase in ("download", "commit"):
            self._speed.labels(phase)

    def add_bytes(self, phase: str, count: int) -> None:
        """Count bytes that were downloaded, or committed, or found to be here."""
        self._bytes.labels(phase).inc(count)

    def hit(self, size: int) -> None:
        """Count a blob that was here."""
        self._hits.inc()
        self.add_bytes("existed", size)

    def miss(self) -> None:
        """Count a blob that was not."""
        self._misses.inc()

    def retry(self) -> None:
        """Count a request that is tried again."""
        self._retries.inc()

    @contextmanager
    def timed(self, phase: str, size: int = 0) -> Iterator[None]:
        """Time a phase that moves ``size`` bytes; one that fails is not counted."""
        begin = time.monotonic()
        yield
        took_s = time.monotonic() - begin
        self._seconds.labels(phase).observe(took_s)
        if size and took_s:
            self._speed.labels(phase).set(size / took_s)

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Count a connection as long as it downloads."""
        with self._connections.track_inprogress():
            yield

    @contextmanager
    def tracked(self, image: str) -> Iterator[Tracker]:
        """Show how far a pull is until it ends. Of several of one image, and beyond the limit, one or none is shown."""
        tracker = Tracker()
        trackers = self._tracked.setdefault(image, [])
        trackers.append(tracker)
        if len(trackers) == 1 and len(self._tracked) <= _MAX_TRACKED:
            self._progress.labels(image).set_function(lambda: trackers[0].ratio())
            self._left.labels(image).set_function(lambda: trackers[0].left_s())
        try:
            yield tracker
        finally:
            trackers.remove(tracker)
            if not trackers:
                del self._tracked[image]
                for gauge in (self._progress, self._left):
                    with suppress(KeyError):  # it was beyond the limit
                        gauge.remove(image)

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
