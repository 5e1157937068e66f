"""What dockerd's users find under ``engine_daemon_*``, and the HTTP side of this service."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sampan.errors import SampanError

# A scrape must not hang on a service that does not answer.
_FACTS_DEADLINE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the services say when they are asked."""

    containers_by_state: dict[str, int]
    storage_driver: str
    events: int  # since runtimed started


AskFacts = Callable[[], Awaitable[DaemonFacts]]


class ApiMetrics:
    """The series of one process."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._requests = Counter(
            "sampan_http_requests", "Docker API requests, by route.", ["method", "route", "code"], registry=metrics
        )
        self._seconds = Histogram(
            "sampan_http_request_seconds",
            "Time to answer a Docker API request that has an end of its own.",
            ["method", "route"],
            registry=metrics,
        )
        self._hijacked = Gauge(
            "sampan_http_hijacked_connections", "Connections that carry a terminal or raw streams.", registry=metrics
        )
        self._actions = Histogram(
            "engine_daemon_container_actions_seconds",
            "The number of seconds it takes to process each container action.",
            ["action"],
            registry=metrics,
        )
        self._image_actions = Histogram(
            "engine_daemon_image_actions_seconds",
            "The number of seconds it takes to process each image action.",
            ["action"],
            registry=metrics,
        )
        self._host_functions = Histogram(
            "engine_daemon_host_info_functions_seconds",
            "The number of seconds it takes to call functions gathering info about the host.",
            ["function"],
            registry=metrics,
        )
        for action in ("changes", "commit", "create", "delete", "start"):
            self._actions.labels(action)
        for action in ("delete", "history", "pull", "push"):
            self._image_actions.labels(action)
        for function in ("system_info", "system_version"):
            self._host_functions.labels(function)

    def answered(self, method: str, route: str, code: int, seconds: float, *, timed: bool) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(code)).inc()
        if timed:
            self._seconds.labels(method, route).observe(seconds)

    @contextmanager
    def action(self, name: str) -> Iterator[None]:
        """Time a container action that succeeds."""
        begin = time.monotonic()
        yield
        self._actions.labels(name).observe(time.monotonic() - begin)

    @contextmanager
    def image_action(self, name: str) -> Iterator[None]:
        """Time an image action, whether or not it succeeds, as dockerd does."""
        with self._image_actions.labels(name).time():
            yield

    @contextmanager
    def host_function(self, name: str) -> Iterator[None]:
        """Time what gathers facts about the host."""
        with self._host_functions.labels(name).time():
            yield

    @contextmanager
    def hijacked(self) -> Iterator[None]:
        """Count a connection for as long as it is taken over."""
        with self._hijacked.track_inprogress():
            yield


class DaemonCollector(Collector):
    """Facts about the host and the engine, asked for at every scrape."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: AskFacts, labels: dict[str, str]) -> None:
        self._loop = loop
        self._ask = ask
        self._labels = labels

    def describe(self) -> list[Metric]:
        """Name the series without asking anybody, which Prometheus does when this is registered."""
        return [*self._machine(), *self._engine(DaemonFacts({}, "", 0))]

    def collect(self) -> Iterator[Metric]:
        """Run in the thread of the scrape. What the services do not answer for in time is left out."""
        yield from self._machine()
        future = asyncio.run_coroutine_threadsafe(self._in_time(), self._loop)
        try:
            facts = future.result(_FACTS_DEADLINE_S * 2)
        except (SampanError, TimeoutError):
            return
        yield from self._engine(facts)

    async def _in_time(self) -> DaemonFacts:
        async with asyncio.timeout(_FACTS_DEADLINE_S):
            return await self._ask()

    def _machine(self) -> list[Metric]:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return [
            GaugeMetricFamily(
                "engine_daemon_engine_cpus_cpus", "The number of cpus that the host has.", value=os.cpu_count() or 1
            ),
            GaugeMetricFamily(
                "engine_daemon_engine_memory_bytes", "The number of bytes of memory of the host.", value=memory_bytes
            ),
        ]

    def _engine(self, facts: DaemonFacts) -> list[Metric]:
        labels = {**self._labels, "graphdriver": facts.storage_driver}
        info = GaugeMetricFamily(
            "engine_daemon_engine_info",
            "The information related to the engine and the OS it is running on.",
            labels=sorted(labels),
        )
        info.add_metric([labels[name] for name in sorted(labels)], 1)
        states = GaugeMetricFamily(
            "engine_daemon_container_states_containers",
            "The count of containers in various states.",
            labels=["state"],
        )
        for state, count in facts.containers_by_state.items():
            states.add_metric([state], count)
        events = CounterMetricFamily("engine_daemon_events", "The number of events logged.", value=facts.events)
        return [info, states, events]
