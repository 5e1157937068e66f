"""Usage, read from cgroup trees of both versions and of a mixed host."""

from pathlib import Path

import pytest

from runtimed.cgroups.orphans import remove_parent
from runtimed.cgroups.reader import CgroupReader
from runtimed.cgroups.usage import BlockIo, CpuUsage, pressure
from runtimed.host.facts import CgroupLayout, CgroupTree, cgroup_trees, layout_of
from sampan.resource.stats import HugepageUse, Pressure, Stall

V1_FILES = {
    "cpuacct/cpuacct.usage": "3000\n",
    "cpuacct/cpuacct.usage_user": "2000\n",
    "cpuacct/cpuacct.usage_sys": "1000\n",
    "cpu/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 77\n",
    "memory/memory.usage_in_bytes": "1000\n",
    "memory/memory.max_usage_in_bytes": "1500\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.failcnt": "3\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory/memory.stat": "cache 1\ntotal_cache 300\ntotal_rss 600\ntotal_inactive_file 250\ntotal_swap 9\n",
    "pids/pids.current": "5\n",
    "pids/pids.max": "max\n",
    "pids/cgroup.procs": "30\n31\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n",
    "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 2\n8:0 Write 0\nTotal 2\n",
}
V2_FILES = {
    "cpu.stat": "usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 10\nnr_throttled 4\nthrottled_usec 7\n",
    "memory.current": "1000\n",
    "memory.peak": "1500\n",
    "memory.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
    "memory.stat": "anon 600\nfile 300\ninactive_file 250\n",
    "memory.swap.current": "9\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "cgroup.procs": "30\n31\n",
    "io.stat": "8:0 rbytes=4096 wbytes=0 rios=2 wios=0 dbytes=0 dios=0\n",
}


def write(root: Path, files: dict[str, str], path: str) -> None:
    for name, content in files.items():
        directory, _, file = name.rpartition("/")
        target = root / directory / path
        target.mkdir(parents=True, exist_ok=True)
        (target / file).write_text(content)


def v1(root: Path) -> tuple[CgroupTree, ...]:
    write(root, V1_FILES, "sampan/x")
    controllers = ("cpuacct", "cpu", "memory", "pids", "blkio")
    return tuple(CgroupTree(root / name, 1, frozenset((name,))) for name in controllers)


def v2(root: Path) -> tuple[CgroupTree, ...]:
    write(root, V2_FILES, "sampan/x")
    return (CgroupTree(root, 2, frozenset(("cpu", "memory", "pids", "io"))),)


def hybrid(root: Path) -> tuple[CgroupTree, ...]:
    return (*v1(root / "old"), CgroupTree(root / "unified", 2, frozenset(("hugetlb",))))


@pytest.mark.parametrize("layout", [v1, v2, hybrid])
def test_usage_means_the_same_in_every_layout(layout: object, tmp_path: Path) -> None:
    assert callable(layout)
    usage = CgroupReader(layout(tmp_path)).read("/sampan/x")
    assert usage is not None
    assert usage.cpu in (CpuUsage(3000, 2000, 1000, 10, 4, 77), CpuUsage(3000, 2000, 1000, 10, 4, 7000))
    memory = usage.memory
    assert (memory.usage_bytes, memory.max_usage_bytes, memory.limit_bytes) == (1000, 1500, 0)
    assert (memory.failures, memory.oom_kills, memory.swap_bytes) == (3, 2, 9)
    assert (memory.rss_bytes, memory.cache_bytes, memory.working_set_bytes) == (600, 300, 750)
    assert (usage.pids, usage.pids_limit) == (5, 0)
    assert usage.block_io == (BlockIo(8, 0, "read", 4096, 2), BlockIo(8, 0, "write", 0, 0))


@pytest.mark.parametrize("layout", [v1, v2, hybrid])
def test_a_cgroup_that_is_gone_is_none_and_has_no_processes(layout: object, tmp_path: Path) -> None:
    assert callable(layout)
    reader = CgroupReader(layout(tmp_path))
    assert reader.read("/sampan/y") is None
    assert reader.read("") is None
    assert reader.processes("/sampan/y") == ()


def test_processes_below_count_too(tmp_path: Path) -> None:
    reader = CgroupReader(v2(tmp_path))
    write(tmp_path, {"cgroup.procs": "99\n30\n"}, "sampan/x/inner")
    assert reader.processes("/sampan/x") == (30, 31, 99)


def test_what_waits_is_told_by_version_2_also_beside_version_1(tmp_path: Path) -> None:
    some, full = "some avg10=1.50 avg60=0.50 avg300=0.10 total=700", "full avg10=0.00 avg60=0.00 avg300=0.00 total=5"
    trees = hybrid(tmp_path)
    write(tmp_path / "unified", {"cpu.pressure": f"{some}\n{full}\n", "io.pressure": f"{some}\n"}, "sampan/x")
    usage = CgroupReader(trees).read_briefly("/sampan/x")
    assert usage is not None
    assert usage.cpu_pressure == Pressure(Stall(700, 1.5, 0.5, 0.1), Stall(5))
    assert usage.io_pressure == Pressure(Stall(700, 1.5, 0.5, 0.1), Stall())  # as older kernels have it of processors
    assert usage.memory_pressure is None
    alone = CgroupReader(v1(tmp_path / "alone")).read_briefly("/sampan/x")
    assert alone is not None
    assert alone.cpu_pressure is None


@pytest.mark.parametrize("text", ["", "some\n", "some avg10=x avg60=0 avg300=0 total=1\n", "full avg10=0 total=1\n"])
def test_pressure_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "cpu.pressure").write_text(text)
    assert pressure(str(tmp_path / "cpu.pressure")) is None


def test_huge_pages_are_told_by_size(tmp_path: Path) -> None:
    def told(*trees: CgroupTree) -> tuple[HugepageUse, ...]:
        usage = CgroupReader(trees).read("/sampan/x")
        assert usage is not None
        return usage.hugepages

    old = {"usage_in_bytes": "4\n", "max_usage_in_bytes": "8\n", "rsvd.usage_in_bytes": "9\n"}
    write(tmp_path, {f"hugetlb/hugetlb.2MB.{name}": text for name, text in old.items()}, "sampan/x")
    hugetlb = CgroupTree(tmp_path / "hugetlb", 1, frozenset(("hugetlb",)))
    assert told(*v1(tmp_path), hugetlb) == (HugepageUse("2MB", 4, 8),)
    new = {"current": "4\n", "max": "max\n", "rsvd.current": "9\n"}
    write(tmp_path / "new", {f"hugetlb.{size}.{name}": text for size in ("1GB", "2MB") for name, text in new.items()},
          "sampan/x")  # fmt: skip
    assert told(CgroupTree(tmp_path / "new", 2, frozenset(("hugetlb",)))) == (
        HugepageUse("1GB", 4, 0),
        HugepageUse("2MB", 4, 0),
    )
    assert told(*v1(tmp_path)) == ()


def test_half_a_cgroup_reads_as_zeros(tmp_path: Path) -> None:
    (tmp_path / "sampan/x").mkdir(parents=True)
    usage = CgroupReader((CgroupTree(tmp_path, 2, frozenset()),)).read("/sampan/x")
    assert usage is not None
    assert usage.cpu.usage_ns == usage.memory.usage_bytes == usage.pids == 0


HYBRID = """\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup2 /elsewhere cgroup2 rw 0 0
"""


def test_the_layout_follows_from_the_mounts() -> None:
    trees = cgroup_trees(HYBRID)
    assert [tree.controllers for tree in trees[:2]] == [{"cpu", "cpuacct"}, {"name=systemd"}]
    assert layout_of(trees) is CgroupLayout.HYBRID
    assert layout_of(trees[:2]) is CgroupLayout.LEGACY
    assert layout_of(trees[2:]) is CgroupLayout.UNIFIED
    assert layout_of(()) is CgroupLayout.NONE


def test_the_engines_cgroup_goes_when_no_container_is_left(tmp_path: Path) -> None:
    (tmp_path / "used/mine/container").mkdir(parents=True)
    (tmp_path / "empty/mine").mkdir(parents=True)
    trees = [CgroupTree(tmp_path / name, 2, frozenset()) for name in ("used", "empty", "none")]
    remove_parent(trees, "mine")
    assert (tmp_path / "used/mine").exists()
    assert not (tmp_path / "empty/mine").exists()
