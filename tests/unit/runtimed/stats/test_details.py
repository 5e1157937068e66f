"""What more there is to say of a container."""

from pathlib import Path

from runtimed.cgroups.usage import BlockIo, CpuUsage, MemoryUsage, Usage
from runtimed.stats.details import DetailReader, DeviceNames
from sampan.resource.stats import DeviceTraffic


class Cgroups:
    """Has ``/a``, with two processes."""

    def read(self, path: str) -> Usage | None:
        if path != "/a":
            return None
        memory = MemoryUsage(max_usage_bytes=9, cache_bytes=8, mapped_bytes=7, kernel_bytes=6, failures=5, oom_kills=4)
        return Usage(CpuUsage(30, 20, 10, 3, 2, 1), memory, 3, 100, (BlockIo(0, 999999, "read", 4096, 1),))

    def processes(self, path: str) -> tuple[int, ...]:
        return (1, 2, 3) if path == "/a" else ()


def test_descriptors_and_sockets_of_all_processes_are_counted(tmp_path: Path) -> None:
    for pid, links in (("1", ["socket:[1]", "/dev/null"]), ("2", ["pipe:[2]", "socket:[3]", "socket:[4]"])):
        directory = tmp_path / pid / "fd"
        directory.mkdir(parents=True)
        for number, target in enumerate(links):
            (directory / str(number)).symlink_to(target)
    limits = ("Max processes  5  unlimited  processes", "Max open files            1024       4096       files")
    (tmp_path / "1/limits").write_text("\n".join(limits))
    found = DetailReader(Cgroups(), str(tmp_path)).of("/a")  # the third process has just ended
    assert found is not None
    assert (found.processes, found.file_descriptors, found.sockets) == (3, 5, 3)
    assert (found.cpu_user_ns, found.cpu_kernel_ns) == (20, 10)
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (3, 2, 1)
    assert (found.max_usage_bytes, found.cache_bytes, found.mapped_bytes, found.kernel_bytes) == (9, 8, 7, 6)
    assert found.open_files_limit == 1024
    assert (found.limit_hits, found.oom_kills, found.pids_limit) == (5, 4, 100)
    assert found.block_io == (DeviceTraffic("0:999999", "read", 4096, 1),)


def test_a_cgroup_that_is_gone_has_none(tmp_path: Path) -> None:
    assert DetailReader(Cgroups(), str(tmp_path)).of("/gone") is None


def test_a_device_without_a_name_has_its_numbers() -> None:
    assert DeviceNames().of(0, 999999) == "0:999999"
