"""What runtimed tells Prometheus about its own work, some of it by dockerd's names; container series are elsewhere."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from sampan import tracing
from sampan.errors import StartError
from sampan.resource.container import Status

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """Start latency by phase, exits, restarts, and how many containers are in which state."""

    def __init__(self, metrics: CollectorRegistry, statuses: Callable[[], Iterable[Status]]) -> None:
        self._start = Histogram(
            "sampan_container_start_seconds",
            "Time that a part of starting a container took; phase=total is the whole.",
            ["phase"],
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._exits = Counter(
            "sampan_container_exits",
            "Containers that ended, by cause: success, error (1-124), start (125-127), signal, oom.",
            ["cause"],
            registry=metrics,
        )
        self._restarts = Counter(
            "sampan_container_restarts", "Containers started again by their restart policy.", registry=metrics
        )
        self._failures = Counter("sampan_container_start_failures", "Starts that failed.", registry=metrics)
        self._steps_running = Gauge("sampan_steps_running", "Steps of builds that run.", registry=metrics)
        self._steps = Counter(
            "sampan_steps",
            "Steps of builds that ended, by outcome: success, error, signal, oom, start (not started), cancelled.",
            ["outcome"],
            registry=metrics,
        )
        self._probes = Counter("engine_daemon_health_checks", "The total number of health checks.", registry=metrics)
        self._failed_probes = Counter(
            "engine_daemon_health_checks_failed", "The total number of failed health checks.", registry=metrics
        )
        self._probe_start = Histogram(
            "engine_daemon_health_check_start_duration_seconds",
            "The number of seconds it takes to prepare to run health checks.",
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._network = Histogram(
            "engine_daemon_network_actions_seconds",
            "The number of seconds it takes to process each network action.",
            ["action"],
            registry=metrics,
        )
        for action in ("allocate", "connect", "release"):
            self._network.labels(action)
        self._subscribers = Gauge(
            "engine_daemon_events_subscribers_total", "The number of current subscribers to events.", registry=metrics
        )
        self._statuses = statuses
        metrics.register(self)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one phase of a start, if it succeeds."""
        begin = time.perf_counter()
        with tracing.span(f"start: {name}"):
            yield
        self._start.labels(name).observe(time.perf_counter() - begin)

    def exited(self, code: int, *, oom_killed: bool) -> None:
        """Count an exit."""
        self._exits.labels("oom" if oom_killed else _cause(code)).inc()

    def restarted(self) -> None:
        """Count a restart by policy."""
        self._restarts.inc()

    def start_failed(self) -> None:
        """Count a start that failed."""
        self._failures.inc()

    def probed(self, *, failed: bool) -> None:
        """Count a health check that was made."""
        self._probes.inc()
        if failed:
            self._failed_probes.inc()

    def probe_started(self, seconds: float) -> None:
        """Tell how long it took until a health check's process ran."""
        self._probe_start.observe(seconds)

    @contextmanager
    def network(self, action: str) -> Iterator[None]:
        """Time a network action: a start's ``allocate``, a ``connect`` of a container, a ``release`` at its end."""
        with self._network.labels(action).time():
            yield

    def watch_subscribers(self, count: Callable[[], int]) -> None:
        """Show how many listen to events."""
        self._subscribers.set_function(count)

    @contextmanager
    def step(self) -> "Iterator[StepOutcome]":
        """Count a step of a build: while it runs, and how it ended, which the yielded object is told."""
        outcome = StepOutcome()
        self._steps_running.inc()
        try:
            yield outcome
        except StartError:
            outcome.name = "start"
            raise
        finally:
            self._steps_running.dec()
            self._steps.labels(outcome.name).inc()

    def describe(self) -> list[GaugeMetricFamily]:
        """Name the series that ``collect`` makes, as Prometheus asks when they are registered."""
        return [GaugeMetricFamily("sampan_containers", "Containers by state.", labels=["state"])]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count the containers in each state, when Prometheus asks."""
        tally = Tally(tuple(self._statuses()))
        (family,) = self.describe()
        for status in Status:
            family.add_metric([status.value], tally[status])
        yield family


class StepOutcome:
    """How a step of a build ended; nobody has waited for that if nothing is told."""

    def __init__(self) -> None:
        self.name = "cancelled"

    def __call__(self, code: int, *, oom_killed: bool) -> None:
        """Tell the exit."""
        self.name = "oom" if oom_killed else "success" if not code else "signal" if code > 128 else "error"


def _cause(code: int) -> str:
    if code == 0:
        return "success"
    if code > 128:
        return "signal"
    return "start" if code in (125, 126, 127) else "error"
