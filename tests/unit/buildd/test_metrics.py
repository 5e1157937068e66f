"""What Prometheus is told of builds, by the rooms that know it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from buildd.build.protocol import GatewayRequest, LocatedError
from buildd.cache.bounds import Bounds
from buildd.cache.collector import BuildCache
from buildd.cache.model import Record, RecordType
from buildd.llb.ops import SourceOp
from buildd.metrics import BuildMetrics
from buildd.session.clients import Clients
from buildd.session.protocol import SessionInfo
from buildd.sources.directories import LocalDirectories
from buildd.sources.local import LocalSource
from sampan.build.request import Export, PruneOptions
from sampan.disk import Root
from sampan.errors import PermissionDeniedError, RemoteError, SampanError
from sampan.resource.snapshot import SnapshotUsage
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.buildd import Gate, failing
from tests.unit.buildd.build.building import Building
from tests.unit.buildd.solver.solving import bench
from tests.unit.buildd.sources.clients import FakeContext

RUN = "/bin/sh -c make"


class Told:
    """A registry, asked for what is not zero."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = BuildMetrics(self.registry)

    def of(self, name: str) -> dict[str, float]:
        """Return a metric's samples by their labels' values, but for zeros."""
        samples = [each for family in self.registry.collect() for each in family.samples if each.name == name]
        assert samples, name
        return {",".join(each.labels.values()): each.value for each in samples if each.value}


@pytest.fixture
def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def building(tmp_path: Path, told: Told) -> AsyncIterator[Building]:
    async with bench(tmp_path, told.metrics) as made:
        yield Building(made)


async def test_builds_and_their_steps_are_counted_by_how_they_end(building: Building, told: Told) -> None:
    building.dockerfile("FROM base\nRUN make\nCOPY app /app\n", app=b"1")
    request = building.request(exports=(Export("image", {"name": "app"}, "0"),))
    await building.builds.solve(request)
    first = told.of("sampan_build_steps_total")
    # The image, the Dockerfile's directory (as often as it is asked for) and the context.
    assert first.pop("source,run") >= 3
    assert first == {"exec,run": 1, "file,run": 1}
    await building.builds.solve(request)
    again = told.of("sampan_build_steps_total")
    assert {name: again[name] for name in ("exec,run", "exec,cached", "file,run", "file,cached", "source,cached")} == {
        "exec,run": 1, "exec,cached": 1, "file,run": 1, "file,cached": 1, "source,cached": 1,
    }  # fmt: skip
    assert told.of("sampan_builds_total") == {"done": 2}
    assert told.of("builder_builds_triggered_total") == {"": 2}
    assert told.of("builder_builds_failed_total") == {}
    assert told.of("sampan_build_seconds_count") == {"run": 2, "export": 2, "total": 2}


async def test_what_is_under_way_is_shown_and_a_client_that_leaves_has_cancelled_it(
    building: Building, told: Told
) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    gate = Gate({"made": b""})
    building.bench.executor.behaviours[RUN] = gate
    build = asyncio.create_task(building.builds.solve(building.request()))
    await gate.running.wait()
    assert told.of("sampan_builds_running") == {"": 1}
    assert told.of("sampan_build_steps_in_flight") == {"exec": 1}
    build.cancel()
    await asyncio.wait((build,))
    assert told.of("sampan_builds_running") == told.of("sampan_build_steps_in_flight") == {}
    assert told.of("sampan_builds_total") == {"cancelled": 1}
    assert told.of("builder_builds_failed_total") == {"build_canceled": 1}
    assert "exec,run" not in told.of("sampan_build_steps_total")
    assert "run" not in told.of("sampan_build_seconds_count")


@pytest.mark.parametrize(
    ("dockerfile", "attributes", "reason"),
    [
        ("FROM base\nRUN make\n", {}, "error_processing_commands_error"),
        ("FROM missing\nRUN make\n", {}, "error_processing_commands_error"),
        ("FROM base\nCOPY gone /\n", {}, "error_processing_commands_error"),
        ("# nothing\n", {}, "dockerfile_empty_error"),
        ("FROM base\nCOPPY a /\n", {}, "unknown_instruction_error"),
        ("FROM base\nCOPY a\n", {}, "dockerfile_syntax_error"),
        ("RUN make\n", {}, "dockerfile_syntax_error"),
        ("FROM base\nONBUILD\n", {}, "missing_onbuild_arguments_error"),
        ("FROM base\n", {"target": "other"}, "build_target_not_reachable_error"),
        ("# syntax=example.com/frontend\nFROM base\n", {}, "error_processing_commands_error"),  # it is not there
        ("FROM base\n", {"requestid": "frontend.other"}, "command_not_supported_error"),
    ],
)
async def test_a_failure_has_dockerds_reason_whoever_drives_the_build(
    building: Building, told: Told, dockerfile: str, attributes: dict[str, str], reason: str
) -> None:
    building.dockerfile(dockerfile)
    building.bench.executor.behaviours[RUN] = failing
    with pytest.raises(SampanError):
        await building.builds.solve(building.request("one", frontend_attributes=attributes))
    assert told.of("sampan_builds_total") == {"failed": 1}
    assert told.of("builder_builds_failed_total") == {reason: 1}

    driven = asyncio.create_task(building.builds.solve(building.request("two", frontend="")))
    gateway = await building.builds.gateway("two")
    with pytest.raises(SampanError) as failed:
        await gateway.solve(GatewayRequest(None, "dockerfile.v0", attributes, evaluate=True))
    gateway.fail(RemoteError(f"the client says: {failed.value}"))
    with pytest.raises(RemoteError):
        await driven
    assert told.of("builder_builds_failed_total") == {reason: 2}


async def test_a_step_that_fails_is_one_and_none_that_waits_for_it(building: Building, told: Told) -> None:
    building.dockerfile("FROM base\nRUN make\nRUN more\n")
    building.bench.executor.behaviours[RUN] = failing
    with pytest.raises(LocatedError):
        await building.builds.solve(building.request())
    steps = told.of("sampan_build_steps_total")
    assert {name: count for name, count in steps.items() if not name.startswith("source")} == {"exec,failed": 1}


async def test_a_build_that_is_refused_has_failed(building: Building, told: Told) -> None:
    with pytest.raises(PermissionDeniedError):
        await building.builds.solve(building.request(entitlements=("security.insecure",)))
    assert told.of("sampan_builds_total") == {"failed": 1}
    assert told.of("sampan_builds_running") == {}


async def test_what_a_client_calls_internal_is_no_build(building: Building, told: Told) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request(internal=True))
    assert told.of("sampan_builds_total") == told.of("builder_builds_triggered_total") == {}
    assert told.of("sampan_build_steps_total")["exec,run"] == 1


async def test_what_a_context_costs_is_told_and_what_it_saves(tmp_path: Path, told: Told) -> None:
    session = FakeSession(SessionInfo("s1", shared_key="host"), {"context": {"a": "12345", "b": "123"}})
    directories = LocalDirectories(tmp_path)
    directories.recover()
    source = LocalSource(directories, Clients(FakeSessions(session)), told.metrics)
    for expected in ({"sent": 8}, {"sent": 9, "saved": 5}):
        async with FakeContext("s1") as context:
            await source.fetch(SourceOp("local://context", {}), context)
        assert told.of("sampan_build_context_bytes_total") == expected
        session.directories["context"]["b"] = "1"
    assert told.of("sampan_build_seconds_count") == {"context": 2}


class Nothing:
    """No layers, no images."""

    async def usages(self, *, committed: bool = False) -> Sequence[SnapshotUsage]:
        return []

    async def roots(self) -> Sequence[Root]:
        return []


class Directories:
    """Records of no layers: "a" and "b" of 10 and 20 bytes are copies of clients' directories."""

    def __init__(self) -> None:
        self.held = [
            Record("a", RecordType.LOCAL, "", 1, 1, size_bytes=10),
            Record("b", RecordType.LOCAL, "", 2, 2, size_bytes=20),
            Record("c", RecordType.CACHE_MOUNT, "", 3, 3, size_bytes=40),
        ]

    async def records(self) -> Sequence[Record]:
        return list(self.held)

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        self.held = [each for each in self.held if each.id not in ids]
        return ids


async def test_the_cache_is_shown_as_it_was_measured_last(tmp_path: Path, told: Told) -> None:
    shelf, nothing = Directories(), Nothing()
    cache = BuildCache([shelf], nothing, nothing, tmp_path, lambda: 10, Bounds(1, 1, 1), meter=told.metrics)
    assert "sampan_build_cache_bytes" not in {each.name for f in told.registry.collect() for each in f.samples}
    await cache.usage(["type==exec.cachemount"])
    assert told.of("sampan_build_cache_bytes") == {"source.local": 30, "exec.cachemount": 40}
    assert told.of("sampan_build_cache_records") == {"source.local": 2, "exec.cachemount": 1}
    prune = cache.prune(PruneOptions(("type==source.local",), all=True))
    await anext(prune)
    await prune.aclose()  # whoever has asked does not read on
    assert told.of("sampan_build_cache_bytes") == {"exec.cachemount": 40}
    await cache.keep_within_bounds()
    assert told.of("sampan_build_cache_bytes") == told.of("sampan_build_cache_records") == {}


async def test_a_builder_that_starts_looks_at_what_the_last_one_left(tmp_path: Path) -> None:
    class Looked(Directories):
        async def remove(self, ids: Collection[str]) -> Collection[str]:
            removed = await super().remove(ids)
            if not self.held:
                done.set()
            return removed

    done, nothing = asyncio.Event(), Nothing()
    async with BuildCache([Looked()], nothing, nothing, tmp_path, lambda: 10, Bounds(1, 1, 1), pause_s=0):
        async with asyncio.timeout(60):
            await done.wait()
