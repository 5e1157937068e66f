"""What crid counts. Labels are bounded: plugins are the administrator's, never a pod's."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily

from crid.cni.model import Command
from sampan.log import log

# From a plugin that has nothing to do to one that waits for its time to be over.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# How long a scrape waits for runtimed to say how containers are.
_STATES_S: Final = 5.0


class Networks(Protocol):
    """Pods' networks; ``cni.networks`` says what it promises."""

    @property
    def count(self) -> int:
        """How many pods have one."""

    @property
    def to_take_back(self) -> int:
        """How many are not taken back yet."""


class CriMetrics:
    """The series of one process."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._metrics = metrics
        self._plugins = Histogram(
            "sampan_cri_cni_seconds",
            "Time that CNI plugins took, by plugin, command and outcome.",
            ["plugin", "command", "outcome"],
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._phases = Histogram(
            "sampan_cri_sandbox_seconds",
            "Time that a part of making a pod sandbox took; total is the whole.",
            ["phase"],
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._failures = CounterMetric(
            "sampan_cri_sandbox_failures",
            "Pod sandboxes that were not made, by the part that failed.",
            ["phase"],
            registry=metrics,
        )

    def ran(self, plugin: str, command: Command, seconds: float, outcome: str) -> None:
        """Take note of a plugin that has ended."""
        self._plugins.labels(plugin, command.value, outcome).observe(seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Take the time of a part of making a sandbox, and note whether it fails."""
        begin = time.monotonic()
        try:
            yield
        except BaseException:
            self._failures.labels(name).inc()
            raise
        self._phases.labels(name).observe(time.monotonic() - begin)

    def watch_networks(self, networks: Networks) -> None:
        """Show how many networks there are."""
        attached = Gauge("sampan_cri_networks", "Pods that have a network of CNI's.", registry=self._metrics)
        attached.set_function(lambda: networks.count)
        waiting = Gauge(
            "sampan_cri_networks_to_take_back",
            "Networks that plugins have not taken back yet.",
            registry=self._metrics,
        )
        waiting.set_function(lambda: networks.to_take_back)

    def watch_states(
        self, pods: Callable[[], Iterable[str]], containers: Callable[[], Awaitable[Iterable[str]]]
    ) -> None:
        """Show how many pods and containers are in each state, asked in the event loop with each scrape."""
        self._metrics.register(_States(asyncio.get_running_loop(), pods, containers))


class _States:
    """Collected in the scrapes' threads."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pods: Callable[[], Iterable[str]],
        containers: Callable[[], Awaitable[Iterable[str]]],
    ) -> None:
        self._loop = loop
        self._pods = pods
        self._containers = containers

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: else ``collect`` would be asked in the loop's own thread, which it waits for."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield both families."""
        asked = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            pods, containers = asked.result(_STATES_S)
        except Exception as error:  # noqa: BLE001  # runtimed is away: the other series are worth having
            asked.cancel()
            log.warning("states of pods were not counted", error=repr(error))
            return
        yield _family("sampan_cri_pods", "Pod sandboxes, by state.", pods)
        yield _family("sampan_cri_containers", "Containers of pods, by state.", containers)

    async def _read(self) -> tuple[Counter[str], Counter[str]]:
        return Counter(self._pods()), Counter(await self._containers())


def _family(name: str, help: str, counts: Counter[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help, labels=["state"])
    for state, count in sorted(counts.items()):
        family.add_metric([state], count)
    return family
