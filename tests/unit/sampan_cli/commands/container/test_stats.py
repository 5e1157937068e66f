from datetime import UTC, datetime
from typing import Any

from sampan.resource.stats import BlockIoSample, ContainerStats, CpuSample, InterfaceSample, MemorySample
from sampan_cli.commands.container.stats import cpu_percent, stats_row, used_memory


def stats(**fields: Any) -> ContainerStats:
    given: dict[str, Any] = {"id": "", "name": "", "read": datetime.fromtimestamp(0, UTC)} | fields
    return ContainerStats(**given)


def test_cpu_is_a_share_of_one_cpu_between_two_readings() -> None:
    reading = stats(
        cpu=CpuSample(usage_ns=150, system_ns=1100, online_cpus=2),
        previous_cpu=CpuSample(usage_ns=100, system_ns=1000, online_cpus=2),
    )
    assert cpu_percent(reading) == 100.0


def test_cpu_without_an_earlier_reading_is_zero() -> None:
    assert cpu_percent(stats()) == 0.0


def test_file_cache_that_can_be_dropped_is_not_memory_in_use() -> None:
    assert used_memory(MemorySample(usage_bytes=100, stats={"inactive_file": 40})) == 60
    assert used_memory(MemorySample(usage_bytes=100, stats={"total_inactive_file": 30, "inactive_file": 40})) == 70
    assert used_memory(MemorySample(usage_bytes=100, stats={"inactive_file": 400})) == 100


def test_row_adds_up_interfaces_and_devices() -> None:
    reading = stats(
        id="0123456789abcdef",
        name="/web",
        memory=MemorySample(usage_bytes=1 << 20, limit_bytes=4 << 20),
        networks={"eth0": InterfaceSample(rx_bytes=1000, tx_bytes=10), "eth1": InterfaceSample(rx_bytes=500)},
        block_io=(BlockIoSample(8, 0, "read", 2000, 1), BlockIoSample(8, 0, "write", 1, 1)),
        pids=3,
    )
    assert stats_row(reading, "web", trunc=True) == {
        "Container": "web",
        "ID": "0123456789ab",
        "Name": "web",
        "CPUPerc": "0.00%",
        "MemUsage": "1MiB / 4MiB",
        "MemPerc": "25.00%",
        "NetIO": "1.5kB / 10B",
        "BlockIO": "2kB / 1B",
        "PIDs": "3",
    }
