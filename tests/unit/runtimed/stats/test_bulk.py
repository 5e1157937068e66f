"""Samples of many containers at once."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import pytest

from runtimed.cgroups.naming import CgroupDriver, CgroupNames
from runtimed.cgroups.usage import BriefUsage
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.store import ContainerStore, Intent
from runtimed.lifecycle.background import Background
from runtimed.stats.bulk import LayerUsage, Samples
from sampan.errors import UnavailableError
from sampan.resource.container import Container, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec, Resources
from sampan.resource.listing import EVERYONE
from sampan.resource.stats import SampleDetails
from sampan.service.set_aside import SetAside
from sampan.sys.measuring import Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make(digit: str, owner: str = "", status: Status = Status.RUNNING, resources: Resources = Resources()) -> Container:  # noqa: B008
    spec = ContainerSpec(digit, owner=owner, resources=resources)
    return Container(digit * 64, spec, NOW, ContainerState(status), cgroup_path=f"/sampan/{digit}")


CONTAINERS = (
    make("a", resources=Resources(memory_bytes=100, memory_swap_bytes=150)),
    make("b", "cri", Status.PAUSED),
    make("c", "cri"),
    make("d", "cri", Status.EXITED),
)


class Known(MemoryStore):
    """Has ``CONTAINERS`` and no store."""

    def __init__(self) -> None:
        super().__init__(cast("ContainerStore", None), random.Random(0), SetAside())

    def __iter__(self) -> Iterator[Entry]:
        return iter([Entry(one, Intent.SETTLED) for one in CONTAINERS])


class Cgroups:
    """All of them but ``gone``."""

    def __init__(self) -> None:
        self.gone = ""

    def read_briefly(self, path: str) -> BriefUsage | None:
        return None if path == self.gone else BriefUsage(1, 20, 10, 5, 6, 7, 8, 9)


class Details:
    """Has a path."""

    def of(self, path: str) -> SampleDetails:
        return SampleDetails(path)


class Layers:
    """Measures as it is told, and counts."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.away = False

    async def usage(self, key: str) -> Usage:
        self.measured.append(key)
        await self.hold.wait()
        if self.away:
            raise UnavailableError("the snapshotter does not answer")
        return Usage(4096, 2)


@pytest.fixture
def layers() -> Layers:
    return Layers()


@pytest.fixture
def cgroups() -> Cgroups:
    return Cgroups()


@pytest.fixture
def samples(layers: Layers, cgroups: Cgroups) -> Samples:
    return Samples(Known(), cgroups, LayerUsage(layers, Background()), Details(), CgroupNames("sampan"))


async def ids(samples: Samples, owner: str, *wanted: str) -> list[str]:
    return [one.id[0] for one in await samples.of(owner, [digit * 64 for digit in wanted])]


async def test_those_that_run_are_told_of_the_owner_that_is_named(samples: Samples) -> None:
    assert await ids(samples, "") == ["a"]
    assert await ids(samples, "cri") == ["b", "c"]
    assert await ids(samples, EVERYONE) == ["a", "b", "c"]
    assert await ids(samples, "cri", "a", "c", "d") == ["c"]


async def test_details_are_in_it_if_they_are_asked_for(samples: Samples) -> None:
    (plain,) = await samples.of("", [])
    (detailed,) = await samples.of("", [], detailed=True)
    assert plain.details is None
    assert detailed.details == SampleDetails("/sampan/a")
    assert (detailed.id, detailed.cpu_usage_ns) == (plain.id, plain.cpu_usage_ns)


async def test_usage_limits_and_what_was_written_are_in_it(samples: Samples) -> None:
    (found,) = await samples.of("", [])
    assert (found.cpu_usage_ns, found.memory_usage_bytes, found.working_set_bytes, found.rss_bytes) == (1, 20, 10, 5)
    assert (found.page_faults, found.major_page_faults, found.swap_usage_bytes, found.pids) == (6, 7, 8, 9)
    assert (found.memory_limit_bytes, found.swap_limit_bytes) == (100, 50)
    assert (found.layer_bytes, found.layer_inodes) == (4096, 2)
    assert found.layer_read is not None


async def test_cgroups_above_containers_are_told_under_their_names(samples: Samples, cgroups: Cgroups) -> None:
    cgroups.gone = "/kubepods.slice/kubepods-pod2.slice"
    parents = ["/kubepods/pod1/", "kubepods-pod2.slice", "kubepods-pod3.slice"]
    *_, one, three = await samples.of("cri", [], detailed=True, parents=parents)
    assert (one.id, three.id) == ("/kubepods/pod1/", "kubepods-pod3.slice")
    assert one.details == SampleDetails("/kubepods/pod1")
    assert three.details == SampleDetails("/kubepods.slice/kubepods-pod3.slice")
    assert (one.pids, one.memory_limit_bytes, one.layer_read) == (9, 0, None)


async def test_a_parent_from_before_systemd_made_cgroups_hides_no_other(layers: Layers, cgroups: Cgroups) -> None:
    names = CgroupNames("sampan", CgroupDriver.SYSTEMD)
    samples = Samples(Known(), cgroups, LayerUsage(layers, Background()), Details(), names)
    *_, old, new = await samples.of("cri", [], detailed=True, parents=["/kubepods/pod1", "kubepods-pod2.slice"])
    assert old.details == SampleDetails("/kubepods/pod1")
    assert new.details == SampleDetails("/kubepods.slice/kubepods-pod2.slice")


async def test_one_that_has_just_ended_is_left_out(samples: Samples, cgroups: Cgroups) -> None:
    cgroups.gone = "/sampan/b"
    assert await ids(samples, "cri") == ["c"]


async def test_what_was_written_is_measured_once_for_all_who_ask_within_seconds(
    samples: Samples, layers: Layers
) -> None:
    layers.hold.clear()
    asking = [asyncio.create_task(samples.of("cri", [])) for _ in range(3)]
    await asyncio.sleep(0)
    layers.hold.set()
    await asyncio.gather(*asking)
    await samples.of("cri", [])
    assert sorted(layers.measured) == ["b" * 64, "c" * 64]


async def test_one_who_leaves_ends_no_measurement_of_the_others(samples: Samples, layers: Layers) -> None:
    layers.hold.clear()
    for turns in range(4):  # before the measurement has begun, and in the middle of it
        leaving = asyncio.create_task(samples.of("cri", []))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    layers.hold.set()
    async with asyncio.timeout(60):
        assert [one.layer_read is not None for one in await samples.of("cri", [])] == [True, True]


async def test_a_snapshotter_that_is_away_is_asked_again_and_hides_nothing_else(
    samples: Samples, layers: Layers
) -> None:
    layers.away = True
    (found,) = await samples.of("", [])
    assert (found.pids, found.layer_read) == (9, None)
    layers.away = False
    (found,) = await samples.of("", [])
    assert found.layer_read is not None
