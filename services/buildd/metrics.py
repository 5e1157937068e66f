"""What buildd counts. Labels are bounded: never a ref, a digest, or a name that a client chose."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from buildd.build.protocol import LocatedError
from buildd.frontend.stage_graph import UnknownTargetError
from buildd.meter import Kind, Phase, StepMark
from buildd.protocol import ProcessError, StepError
from sampan.dockerfile.source import (
    DockerfileError,
    EmptyDockerfileError,
    MissingTriggerError,
    UnknownInstructionError,
)
from sampan.errors import InvalidArgumentError, SampanError, UnimplementedError

# From a context of which nothing has changed to a step that compiles something large.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0)

_CANCELED: Final = "build_canceled"
_OTHER: Final = "error_processing_commands_error"

# dockerd's words for why builds fail, those first that say more.
_REASONS: Final[Mapping[type[SampanError], str]] = {
    ProcessError: _OTHER,
    EmptyDockerfileError: "dockerfile_empty_error",
    UnknownInstructionError: "unknown_instruction_error",
    MissingTriggerError: "missing_onbuild_arguments_error",
    UnknownTargetError: "build_target_not_reachable_error",
    UnimplementedError: "command_not_supported_error",
}
_SYNTAX: Final = "dockerfile_syntax_error"


class BuildMetrics:
    """A ``Meter``: the ``sampan_build…`` series, and dockerd's ``builder_…``."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._builds = Counter("sampan_builds", "Builds ended, by outcome.", ["outcome"], registry=metrics)
        self._running = Gauge("sampan_builds_running", "Builds under way.", registry=metrics)
        self._steps = Counter(
            "sampan_build_steps",
            "Steps of builds that were run, found in a cache, or failed; one that builds share counts for each.",
            ["kind", "result"],
            registry=metrics,
        )
        self._in_flight = Gauge(
            "sampan_build_steps_in_flight", "Steps of builds under way or waiting.", ["kind"], registry=metrics
        )
        self._seconds = Histogram(
            "sampan_build_seconds",
            "Time that a part of a build took, a step with its wait for a free place; total is the whole.",
            ["phase"],
            buckets=_BUCKETS,
            registry=metrics,
        )
        self._context = Counter(
            "sampan_build_context_bytes",
            "Content of clients' directories that was sent, or saved since it had been sent before.",
            ["result"],
            registry=metrics,
        )
        self._cache_bytes = Gauge(
            "sampan_build_cache_bytes",
            "Bytes of the build cache by type, when it was last measured.",
            ["type"],
            registry=metrics,
        )
        self._cache_records = Gauge(
            "sampan_build_cache_records",
            "Records of the build cache by type, when it was last measured.",
            ["type"],
            registry=metrics,
        )
        self._triggered = Counter("builder_builds_triggered", "Number of triggered image builds.", registry=metrics)
        self._failed = Counter("builder_builds_failed", "Number of failed image builds.", ["reason"], registry=metrics)
        for outcome in ("done", "failed", "cancelled"):
            self._builds.labels(outcome)
        for kind in Kind:
            self._in_flight.labels(kind.value)
            for result in ("run", "cached", "failed"):
                self._steps.labels(kind.value, result)
        for phase in Phase:
            self._seconds.labels(phase.value)
        for result in ("sent", "saved"):
            self._context.labels(result)
        for reason in {_CANCELED, _SYNTAX, *_REASONS.values()}:
            self._failed.labels(reason)

    @contextmanager
    def build(self) -> Iterator[None]:
        """See ``Meter``."""
        self._triggered.inc()
        outcome = "done"
        with self._running.track_inprogress():
            try:
                with self.timed(Phase.TOTAL):
                    yield
            except asyncio.CancelledError:
                outcome = "cancelled"
                self._failed.labels(_CANCELED).inc()
                raise
            except BaseException as error:
                outcome = "failed"
                self._failed.labels(failure_reason(error)).inc()
                raise
            finally:
                self._builds.labels(outcome).inc()

    @contextmanager
    def step(self, kind: Kind) -> Iterator[StepMark]:
        """See ``Meter``."""
        mark = StepMark()
        with self._in_flight.labels(kind.value).track_inprogress():
            try:
                yield mark
            except Exception:
                self._steps.labels(kind.value, "failed").inc()
                raise
        self._steps.labels(kind.value, "cached" if mark.cached else "run").inc()

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """See ``Meter``."""
        begin = time.perf_counter()
        yield
        self._seconds.labels(phase.value).observe(time.perf_counter() - begin)

    def context(self, sent_bytes: int, saved_bytes: int) -> None:
        """See ``Meter``."""
        self._context.labels("sent").inc(sent_bytes)
        self._context.labels("saved").inc(saved_bytes)

    def cache(self, taken: Mapping[str, tuple[int, int]]) -> None:
        """See ``Meter``."""
        for gauge in (self._cache_records, self._cache_bytes):
            gauge.clear()
        for type_, (records, size_bytes) in taken.items():
            self._cache_records.labels(type_).set(records)
            self._cache_bytes.labels(type_).set(size_bytes)


def failure_reason(error: BaseException) -> str:
    """Return what dockerd's metrics call the cause of a failed build.

    A client that drives its build itself ends it with an error of its own: why, says what it was told before.
    """
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.cause if isinstance(at, LocatedError | StepError) else at.__cause__
    for kind, reason in _REASONS.items():
        if any(isinstance(each, kind) for each in found):
            return reason
    dockerfile = next((number for number, each in enumerate(found) if isinstance(each, DockerfileError)), len(found))
    # Behind a Dockerfile's line may be something else than how it is written, such as an image that is not there.
    behind = [each for each in found[dockerfile:] if isinstance(each, SampanError)]
    return _SYNTAX if behind and all(isinstance(each, InvalidArgumentError) for each in behind) else _OTHER
