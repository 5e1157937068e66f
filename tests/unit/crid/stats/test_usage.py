"""What pods and containers use, and the series that are made of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crid.cni.kernel import Counters
from crid.containers.model import Image, Record
from crid.model.config import LinuxContainer, Resources
from crid.model.security import NamespaceMode, NamespaceOption
from crid.sandboxes.model import Sandbox, State
from crid.stats import series
from crid.stats.usage import Usages, Wanted
from sampan.errors import NotFoundError
from sampan.resource.stats import ContainerSample, DeviceTraffic, HugepageUse, Pressure, SampleDetails, Stall
from tests.unit.crid.world import PRIVATE, container, pod

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ETH0 = Counters("eth0", 1, 2, 3, 4, 5, 6, 7, 8)
PRESSURE = Pressure(Stall(3_500_000, 1.5), Stall(2_000_000))
LO = Counters("lo", 9, 9, 9, 9, 9, 9, 9, 9)


def sandbox(name: str, options: NamespaceOption = PRIVATE, **more: object) -> Sandbox:
    return Sandbox(name * 64, pod(name, options, labels={"app": name}), b"", 0, state=State.READY, **more)  # type: ignore[arg-type]


def record(id: str, sandbox: str, **more: object) -> Record:
    config = container(f"c{id}", labels={"tier": id}, **more)  # type: ignore[arg-type]
    return Record(
        f"k8s_{id}", sandbox * 64, 0, config, Image("sha256:1", "docker.io/library/web:1", "ref"), "", id * 64
    )


@dataclass
class Machine:
    """Pods, containers and what they use; all of it is the test's to change."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    running: dict[str, ContainerSample] = field(default_factory=dict)
    parents: dict[str, ContainerSample] = field(default_factory=dict)
    counters: dict[str, tuple[Counters, ...]] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    now_s: float = 0.0

    def uses(self, id: str, **usage: int) -> None:
        sample = ContainerSample(id * 64, BEGIN + timedelta(seconds=self.now_s))
        self.running[id * 64] = replace(sample, **usage)  # type: ignore[arg-type]

    async def samples(
        self,
        owner: str = "",
        containers: Sequence[str] = (),
        *,
        detailed: bool = False,
        parents: Sequence[str] = (),
    ) -> tuple[ContainerSample, ...]:
        assert owner == "cri"
        self.asked.append(tuple(containers))
        traffic = (DeviceTraffic("/dev/sda", "read", 4096, 1),)
        details = SampleDetails("/pods/x", block_io=traffic, hugepages=(HugepageUse("2MB", 4, 5),))
        found = [one for one in self.running.values() if not containers or one.id in containers]
        found += [self.parents[name] for name in parents if name in self.parents]
        return tuple(replace(one, details=details if detailed else None) for one in found)

    def get(self, id: str) -> Sandbox:
        return next(each for each in self.sandboxes if each.id.startswith(id))

    def everything(self) -> list[Sandbox]:
        return self.sandboxes

    async def read(self, places: Mapping[str, Path]) -> dict[str, tuple[Counters, ...]]:
        return {key: self.counters[key] for key in places if key in self.counters}

    def usages(self) -> Usages:
        machine = self

        class ContainerRecords:
            def get(self, id: str) -> Record:
                for each in machine.records:
                    if each.id.startswith(id):
                        return each
                raise NotFoundError(id)

            def all(self) -> Iterable[Record]:
                return machine.records

        return Usages(self, self, ContainerRecords(), Path, self.read, lambda: int(self.now_s * 1e9))


@pytest.fixture
def machine() -> Machine:
    machine = Machine([sandbox("a"), sandbox("b")], [record("1", "a"), record("2", "a"), record("3", "b")])
    machine.uses("1", cpu_usage_ns=100, memory_usage_bytes=10, pids=1)
    machine.uses("2", cpu_usage_ns=200, memory_usage_bytes=20, pids=2)
    machine.counters = {"a" * 64: (LO, ETH0)}
    return machine


async def test_containers_that_run_and_are_wanted_are_told(machine: Machine) -> None:
    usages = machine.usages()

    async def ids(wanted: Wanted) -> list[str]:
        return [use.record.id[0] for use in await usages.containers(wanted)]

    assert await ids(Wanted()) == ["1", "2"]
    assert await ids(Wanted(id="2")) == ["2"]
    assert await ids(Wanted(sandbox="b")) == []
    assert await ids(Wanted(labels={"tier": "1"})) == ["1"]
    assert await ids(Wanted(labels={"tier": "1"}, id="2")) == []


async def test_one_that_does_not_run_is_known_and_has_no_usage(machine: Machine) -> None:
    assert (await machine.usages().container("3")).sample is None
    assert (await machine.usages().container("1")).sample is not None
    with pytest.raises(NotFoundError):
        await machine.usages().container("9")


async def test_a_pod_is_the_sum_of_its_containers_and_its_infra(machine: Machine) -> None:
    machine.sandboxes[0] = replace(machine.sandboxes[0], infra="f" * 64)
    machine.uses("f", cpu_usage_ns=5, memory_usage_bytes=3, pids=1)
    found = await machine.usages().pod("a")
    assert machine.asked == [("1" * 64, "2" * 64, "f" * 64)]
    assert found.cpu_ns == 305
    assert sum(sample.memory_usage_bytes for sample in found.samples) == 33
    assert [use.record.id[0] for use in found.containers] == ["1", "2"]
    assert found.interfaces == (LO, ETH0)


async def test_processor_time_of_a_container_that_has_ended_stays_its_pods(machine: Machine) -> None:
    usages = machine.usages()
    assert (await usages.pod("a")).cpu_ns == 300
    del machine.running["2" * 64]
    assert (await usages.pod("a")).cpu_ns == 300
    machine.uses("1", cpu_usage_ns=150)
    assert (await usages.pod("a")).cpu_ns == 350


def in_cgroup(known: Sandbox, parent: str) -> Sandbox:
    linux = replace(known.config.linux, cgroup_parent=parent)
    return replace(known, config=replace(known.config, linux=linux))


async def test_a_pod_with_a_cgroup_of_its_own_is_what_that_says(machine: Machine) -> None:
    machine.sandboxes[0] = in_cgroup(machine.sandboxes[0], "/kubepods/poda")
    pressure = Pressure(Stall(7), Stall(5))
    own = ContainerSample("/kubepods/poda", BEGIN, cpu_usage_ns=1000, pids=9, cpu_pressure=pressure)
    machine.parents["/kubepods/poda"] = own
    found = await machine.usages().pod("a")
    assert found.cpu_ns == 1000
    assert found.own == own
    assert found.samples == (own,)
    assert [use.record.id[0] for use in found.containers] == ["1", "2"]
    machine.sandboxes[1] = in_cgroup(machine.sandboxes[1], "/kubepods/poda")  # whose would it be?
    assert (await machine.usages().pod("a")).own is None


async def test_what_a_pod_may_take_is_known_if_all_its_containers_have_limits(machine: Machine) -> None:
    assert (await machine.usages().pod("a")).memory_limit_bytes == 0
    machine.uses("1", memory_limit_bytes=100)
    assert (await machine.usages().pod("a")).memory_limit_bytes == 0
    machine.uses("2", memory_limit_bytes=50)
    assert (await machine.usages().pod("a")).memory_limit_bytes == 150
    assert (await machine.usages().pod("b")).memory_limit_bytes == 0


async def test_a_rate_is_of_two_readings_a_second_or_more_apart(machine: Machine) -> None:
    usages = machine.usages()
    assert (await usages.container("1")).nano_cores is None
    for second, cpu_ms, rate in (
        (0.4, 200, None),
        (2.0, 1000, 500_000_000),
        (2.5, 3000, 500_000_000),  # too near the last one
        (4.0, 3000, 1_000_000_000),
        (6.0, 10, None),  # the container was started anew
        (8.0, 2010, 1_000_000_000),
    ):
        machine.now_s = second
        machine.uses("1", cpu_usage_ns=cpu_ms * 1_000_000)
        found = (await usages.container("1")).nano_cores
        assert found == rate or (found is not None and rate is not None and abs(found - rate) < 1000)


async def test_only_pods_that_are_ready_are_listed_and_only_with_networks_of_their_own(machine: Machine) -> None:
    host = replace(PRIVATE, network=NamespaceMode.NODE)
    machine.sandboxes.append(sandbox("c", host))
    machine.sandboxes.append(replace(sandbox("d"), state=State.STOPPED))
    machine.counters["c" * 64] = (ETH0,)
    found = await machine.usages().pods(Wanted())
    assert [(use.sandbox.id[0], use.interfaces is None) for use in found] == [("a", False), ("b", True), ("c", True)]
    assert [use.sandbox.id[0] for use in await machine.usages().pods(Wanted(labels={"app": "b"}))] == ["b"]
    assert (await machine.usages().pod("d")).samples == ()


async def test_every_series_has_as_many_values_of_labels_as_it_says(machine: Machine) -> None:
    machine.records[0] = record("1", "a", linux=LinuxContainer(resources=Resources(cpu_quota=20_000, cpu_shares=512)))
    machine.uses("1", memory_usage_bytes=10, **{f"{name}_pressure": PRESSURE for name in ("cpu", "memory", "io")})  # type: ignore[arg-type]
    machine.sandboxes[0] = in_cgroup(machine.sandboxes[0], f"/{'a' * 64}")
    machine.parents[f"/{'a' * 64}"] = replace(machine.running["1" * 64], id=f"/{'a' * 64}", memory_usage_bytes=33)
    (found, _) = await machine.usages().pods(Wanted(), detailed=True)
    keys = {name: labels for name, _, labels in series.descriptors()}
    assert all(meaning for _, meaning, _ in series.descriptors())
    disk = series.Filesystem("/dev/vda", 100, 10, 5)
    rows = series.rows(found, {"1" * 64: 7_000_000_000}, disk)
    metrics = [*series.of_pod(found), *(each for row in rows for each in series.of_container(found, row))]
    told: dict[str, list[series.Metric]] = {}
    for metric in metrics:
        assert len(metric.labels) == len(keys[metric.name]), metric.name
        told.setdefault(metric.name, []).append(metric)
    assert told.keys() == keys.keys() - {"container_fs_writes_bytes_total", "container_fs_writes_total"}
    assert [metric.value for metric in told["container_spec_cpu_quota"]] == [20_000]  # of the one that has a quota
    assert [metric.value for metric in told["container_start_time_seconds"]] == [7, 0]
    (received,) = told["container_network_receive_bytes_total"]
    assert dict(zip(keys[received.name], received.labels, strict=True)) == {
        "container": "", "id": f"/{'a' * 64}", "image": "", "name": "a" * 64, "namespace": "default", "pod": "a",
        "interface": "eth0",
    }  # fmt: skip
    assert (received.value, received.is_counter) == (1, True)
    of_pod, used, _ = told["container_memory_usage_bytes"]
    assert (of_pod.value, of_pod.labels[0]) == (33, "")
    assert [each.value for each in told["container_pressure_cpu_waiting_seconds_total"]] == [3, 3]
    assert [each.value for each in told["container_pressure_io_stalled_seconds_total"]] == [2, 2]
    huge = told["container_hugetlb_usage_bytes"][1]
    assert (huge.labels[-1], huge.value, huge.is_counter) == ("2MB", 4, False)
    assert dict(zip(keys[used.name], used.labels, strict=True)) == {
        "container": "c1", "id": "/pods/x", "image": "docker.io/library/web:1", "name": "1" * 64,
        "namespace": "default", "pod": "a",
    }  # fmt: skip
    assert (used.value, used.is_counter) == (10, False)
    inodes = told["container_fs_inodes_total"][0]
    assert (inodes.value, inodes.is_counter) == (10, False)  # a name like a counter's, and they do not grow


def test_the_file_system_of_a_directory_has_a_size(tmp_path: Path) -> None:
    found = series.filesystem_of(tmp_path)
    assert found.device
    assert found.size_bytes > 0
