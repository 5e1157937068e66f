"""How far a pull is, and how long it takes."""

import asyncio
import math
import os

from prometheus_client import CollectorRegistry

from imaged.metrics import PullMetrics
from imaged.transfer.tracker import Tracker
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import Layer
from sampan.resource.transfer import FetchPhase, FetchResolved, FetchStep
from tests.fakes.registry import FakeRegistry
from tests.unit.imaged.parts import Parts

FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def resolved(*sizes: int) -> FetchResolved:
    layers = [
        Layer(Descriptor(OCI_LAYER, digest, size), digest) for digest, size in zip((FIRST, SECOND), sizes, strict=True)
    ]
    return FetchResolved("lease", parse_reference("x:1"), Descriptor(OCI_LAYER, FIRST, 1), tuple(layers))


def test_progress_is_bytes_here_by_bytes_in_all() -> None:
    tracker = Tracker(Time())
    assert tracker.ratio() == 0
    tracker.resolved(resolved(300, 100))
    tracker.post(FetchStep(SECOND, FetchPhase.EXISTED, 100, 100))
    assert tracker.ratio() == 0.25
    tracker.post(FetchStep(FIRST, FetchPhase.DOWNLOADING, 100, 300))
    assert tracker.ratio() == 0.5
    tracker.post(FetchStep(FIRST, FetchPhase.RETRYING, 5, 300))
    assert tracker.ratio() == 0.5
    tracker.post(FetchStep(FIRST, FetchPhase.VERIFYING, 300, 300))
    tracker.post(FetchStep(FIRST, FetchPhase.COMMITTED, 300, 300))
    assert tracker.ratio() == 1
    assert tracker.left_s() == 0


def test_time_left_is_reckoned_with_the_speed_of_late_and_without_what_was_here() -> None:
    clock = Time()
    tracker = Tracker(clock)
    assert math.isnan(tracker.left_s())
    tracker.resolved(resolved(100_000, 1000))
    tracker.post(FetchStep(SECOND, FetchPhase.EXISTED, 1000, 1000))
    tracker.post(FetchStep(FIRST, FetchPhase.DOWNLOADING, 50_000, 100_000))  # brought by an earlier pull
    assert math.isnan(tracker.left_s())
    for second in range(1, 11):
        clock.s += 1
        tracker.post(FetchStep(FIRST, FetchPhase.DOWNLOADING, 50_000 + second * 1000, 100_000))
    assert round(tracker.left_s()) == 40
    for second in range(1, 41):
        clock.s += 1
        tracker.post(FetchStep(FIRST, FetchPhase.DOWNLOADING, 60_000 + second * 100, 100_000))
    assert round(tracker.left_s()) == 360


def test_series_of_pulls_are_bounded_and_gone_at_their_end() -> None:
    registry = CollectorRegistry()
    metrics = PullMetrics(registry)

    def shown() -> list[str]:
        (family,) = (one for one in registry.collect() if one.name == "sampan_image_pull_progress_ratio")
        return [sample.labels["image"] for sample in family.samples]

    with metrics.tracked("a"):
        with metrics.tracked("a"):
            assert shown() == ["a"]
        assert shown() == ["a"]
    assert shown() == []
    pulls = [metrics.tracked(str(number)) for number in range(200)]
    for pull in pulls:
        pull.__enter__()
    assert len(shown()) == 100
    for pull in pulls:
        pull.__exit__(None, None, None)
    assert shown() == []


async def test_running_pull_is_shown_by_its_image_and_what_it_cost_afterwards(
    parts: Parts, registry: FakeRegistry
) -> None:
    registry.add_image("x", "1", os.urandom(4_000_000))
    registry.piece_delay_s = 0.01
    labels = {"image": f"{registry.address}/x:1"}
    sample = parts.metrics.get_sample_value
    running = asyncio.create_task(parts.fetch(labels["image"]))
    seen: set[float] = set()
    async with asyncio.timeout(60):
        while not running.done():
            seen.add(sample("sampan_image_pull_progress_ratio", labels) or 0.0)
            assert sample("sampan_image_downloads_in_flight") is not None
            await asyncio.sleep(0.02)
    await running
    assert len(seen) > 2
    assert max(seen) > 0.2
    assert sample("sampan_image_pull_progress_ratio", labels) is None
    assert sample("sampan_image_pull_left_seconds", labels) is None
    assert sample("sampan_image_downloads_in_flight") == 0
    assert sample("sampan_image_pull_cache_misses_total") == 2
    assert (sample("sampan_image_pull_bytes_per_second", {"phase": "download"}) or 0) > 0
    await parts.fetch(labels["image"])
    assert sample("sampan_image_pull_cache_hits_total") == 2
