"""Passes of garbage collection in a service: at its start, every so often, and when somebody asks."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sampan.disk import Collected, Collector, StoredObject, sizes_by_owner
from sampan.errors import SampanError
from sampan.log import log
from sampan.sys.memory import drop_clean_pages, trim

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

# A service that has just started has clients waiting; and what the first pass asks may be starting, too.
_FIRST_S: Final = 5.0


class PassMetrics:
    """The ``sampan_gc_…`` series and ``sampan_store_bytes``."""

    def __init__(self, metrics: CollectorRegistry, kinds: tuple[str, ...]) -> None:
        self._runs = Counter(
            "sampan_gc_runs", "Passes of garbage collection, by what they were for and outcome.",
            ["trigger", "outcome"], registry=metrics,
        )  # fmt: skip
        self._seconds = Histogram("sampan_gc_seconds", "Time a pass took.", registry=metrics, buckets=_BUCKETS)
        self._objects = Counter("sampan_gc_freed_objects", "Objects removed, by kind.", ["kind"], registry=metrics)
        self._bytes = Counter("sampan_gc_freed_bytes", "Bytes removed, by kind.", ["kind"], registry=metrics)
        self._last = Gauge(
            "sampan_gc_last_run_timestamp_seconds", "When the last pass that succeeded ended.", registry=metrics
        )
        self._store = Gauge(
            "sampan_store_bytes",
            "Bytes on disk by kind and first holder, as the last pass left them.",
            ["kind", "owner"],
            registry=metrics,
        )
        for kind in kinds:
            self._objects.labels(kind)
            self._bytes.labels(kind)

    def ended(self, trigger: str, outcome: str) -> None:
        """Count a pass."""
        self._runs.labels(trigger, outcome).inc()

    def collected(self, pass_: Collected, now_s: float) -> None:
        """Count what a pass freed."""
        self._seconds.observe(pass_.seconds)
        self._last.set(now_s)
        for kind, freed in pass_.freed.items():
            self._objects.labels(kind).inc(freed.count)
            self._bytes.labels(kind).inc(freed.size_bytes)

    def stored(self, sizes: dict[tuple[str, str], int]) -> None:
        """Show what is there."""
        self._store.clear()
        for (kind, owner), size in sizes.items():
            self._store.labels(kind, owner).set(size)


class Passes:
    """Runs a service's passes, one after another. As a context manager it runs those that nobody asks for."""

    def __init__(
        self,
        collector: Collector,
        metrics: CollectorRegistry,
        interval_s: float,
        *,
        first_s: float = _FIRST_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``interval_s`` of 0: only at the start, and when asked."""
        self._collector = collector
        self._metrics = PassMetrics(metrics, tuple(collector.kinds))
        self._interval_s = interval_s
        self._first_s = first_s
        self._clock = clock
        self._running = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.create_task(self._repeat(), name="garbage collection")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])

    async def run(self, trigger: str = "request", *, leftovers: bool = False) -> Collected:
        """Run a pass, after the one that is under way; see ``Collector.collect``.

        Raises:
            SampanError: as ``Collector.collect`` does.
        """
        outcome = "failed"
        try:
            async with self._running:
                begin = time.monotonic()
                freed = await self._collector.collect(leftovers=leftovers)
                done = Collected({kind: one for kind, one in freed.items() if one.count}, time.monotonic() - begin)
                self._metrics.collected(done, self._clock())
                await self._show()
            outcome = "done"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.ended(trigger, outcome)
        if done.freed:
            counts = {kind: one.count for kind, one in done.freed.items()}
            seconds = round(done.seconds, 3)
            log.info("garbage collected", trigger=trigger, bytes=done.reclaimed_bytes, seconds=seconds, **counts)
        return done

    async def _show(self) -> None:
        objects: list[StoredObject] = []
        async for some in self._collector.objects(measure=False):
            objects += some
        self._metrics.stored(sizes_by_owner(objects))

    async def _repeat(self) -> None:
        await asyncio.sleep(self._first_s)
        await self._try("start")
        while self._interval_s:
            await asyncio.sleep(self._interval_s)
            await self._try("timer")

    async def _try(self, trigger: str) -> None:
        try:
            await self.run(trigger)
        except SampanError as error:
            log.warning("garbage not collected this time", trigger=trigger, error=str(error))
        except Exception:  # the next pass finds what this one has left
            log.exception("garbage collection failed", trigger=trigger)
        # At rest a service is to be small. Trimming takes as long as there is to give back.
        await asyncio.to_thread(trim)
        drop_clean_pages()
