"""What the snapshotter counts. Labels are bounded: no name, ID or digest is one."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The ``sampan_layer_*`` and ``sampan_snapshots`` series."""

    def __init__(self, metrics: CollectorRegistry, driver: str) -> None:
        """All series of layers are labelled with the driver in use."""
        self._driver = driver
        self._seconds = Histogram(
            "sampan_layer_apply_seconds",
            "Time to store a layer, by phase: wait for a worker, unpack, sync to disk.",
            ["driver", "phase"],
            registry=metrics,
            buckets=_SECONDS,
        )
        self._bytes = Counter(
            "sampan_layer_apply_bytes",
            "Bytes of layers, by phase: read from the content store, unpacked from their tar, stored on disk.",
            ["driver", "phase"],
            registry=metrics,
        )
        self._layers = Counter(
            "sampan_layer_applies",
            "Layers asked for, by outcome: applied, existed, or the kind of failure.",
            ["driver", "outcome"],
            registry=metrics,
        )
        self._in_flight = Gauge("sampan_layer_applies_in_flight", "Layers being stored.", ["driver"], registry=metrics)
        self._progress = Gauge(
            "sampan_layer_apply_progress_ratio",
            "Part of the blobs of the layers being stored that is unpacked; NaN while there are none.",
            ["driver"],
            registry=metrics,
        )
        self._speed = Gauge(
            "sampan_layer_apply_bytes_per_second",
            "Throughput of the layer that was last unpacked, in bytes of its blob.",
            ["driver"],
            registry=metrics,
        )
        self._failures = Counter(
            "sampan_layer_worker_failures",
            "Worker processes that ended without an answer: killed, out of memory, crashed.",
            registry=metrics,
        )
        self._mounts = Counter(
            "sampan_layer_image_mounts",
            "EROFS images to be mounted, by outcome: mounted or failed.",
            ["outcome"],
            registry=metrics,
        )
        self._snapshots = Gauge("sampan_snapshots", "Snapshots, by kind.", ["kind"], registry=metrics)

    def watch(self, under_way: Callable[[], list[tuple[int, int]]]) -> None:
        """Show of the layers being stored how many there are and how far: of each the bytes read, and of its blob."""

        def ratio() -> float:
            layers = under_way()
            total = sum(size for _, size in layers)
            return sum(read for read, _ in layers) / total if total else float("nan")

        self._in_flight.labels(self._driver).set_function(lambda: len(under_way()))
        self._progress.labels(self._driver).set_function(ratio)

    def unpacked(self, blob_bytes: int, seconds: float) -> None:
        """Count one layer's way through a worker."""
        self.took("unpack", seconds)
        self.moved("read", blob_bytes)
        if seconds > 0:
            self._speed.labels(self._driver).set(blob_bytes / seconds)

    def took(self, phase: str, seconds: float) -> None:
        """Count one layer's time in a phase."""
        self._seconds.labels(self._driver, phase).observe(seconds)

    def moved(self, phase: str, count: int) -> None:
        """Count bytes that passed a phase."""
        self._bytes.labels(self._driver, phase).inc(count)

    def ended(self, outcome: str) -> None:
        """Count a layer asked for."""
        self._layers.labels(self._driver, outcome).inc()

    def worker_died(self) -> None:
        """Count a worker that gave no answer."""
        self._failures.inc()

    def mounted(self, success: bool) -> None:  # a callback's one argument
        """Count a layer's image that was to be mounted."""
        self._mounts.labels("mounted" if success else "failed").inc()

    def snapshots(self, kinds: dict[str, int]) -> None:
        """Set how many snapshots there are of each kind."""
        for kind, count in kinds.items():
            self._snapshots.labels(kind).set(count)
