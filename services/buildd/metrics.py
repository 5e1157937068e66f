"""What the builder counts. Labels are bounded: no ref, digest or name of an image is one."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from buildd.history.model import BuildRecord

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The ``sampan_build*`` series, and dockerd's ``builder_*``."""

    def __init__(self, registry: CollectorRegistry, running: Callable[[], int]) -> None:
        self._seconds = Histogram(
            "sampan_build_seconds",
            "Time that a build took to its end, by outcome: done, failed, cancelled.",
            ["outcome"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._steps = Counter(
            "sampan_build_steps",
            "Steps of builds that have ended, by result: cached, run.",
            ["result"],
            registry=registry,
        )
        self._triggered = Counter("builder_builds_triggered", "Number of triggered image builds", registry=registry)
        self._failed = Counter("builder_builds_failed", "Number of failed image builds", ["reason"], registry=registry)
        Gauge("sampan_builds_running", "Builds at work.", registry=registry).set_function(running)
        for outcome in ("done", "failed", "cancelled"):
            self._seconds.labels(outcome)
        for result in ("cached", "run"):
            self._steps.labels(result)
        for reason in ("build_canceled", "build_failed"):
            self._failed.labels(reason)

    def begun(self) -> None:
        """Count a build that begins."""
        self._triggered.inc()

    def ended(self, record: BuildRecord, *, cancelled: bool) -> None:
        """Count a build that has ended."""
        outcome = "cancelled" if cancelled else "failed" if record.error else "done"
        self._seconds.labels(outcome).observe((record.completed_ns - record.created_ns) / 1e9)
        self._steps.labels("cached").inc(record.cached_steps)
        self._steps.labels("run").inc(record.completed_steps - record.cached_steps)
        if outcome != "done":
            self._failed.labels("build_canceled" if cancelled else "build_failed").inc()
