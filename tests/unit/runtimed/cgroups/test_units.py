"""What systemd is told of limits."""

import pytest

from runtimed.cgroups.units import annotations, change_command, properties

NONE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({}, {}),
        ({"cpu": {"shares": 5}, "devices": []}, {}),
        ({"cpu": {"quota": 50_000}}, {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 100_000}),
        ({"cpu": {"quota": 30_000, "period": 20_000}}, {"CPUQuotaPerSecUSec": 1_500_000, "CPUQuotaPeriodUSec": 20_000}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": NONE, "CPUQuotaPeriodUSec": 100_000}),
        ({"memory": {"limit": 100, "swap": 150}}, {"MemoryMax": 100, "MemorySwapMax": 50}),
        ({"memory": {"limit": 100, "swap": 100}}, {"MemoryMax": 100, "MemorySwapMax": 0}),
        ({"memory": {"limit": 100, "swap": -1}}, {"MemoryMax": 100, "MemorySwapMax": NONE}),
        ({"memory": {"limit": -1, "reservation": 10}}, {"MemoryMax": NONE, "MemoryLow": 10}),
        ({"pids": {"limit": 7}}, {"TasksMax": 7}),
        ({"pids": {"limit": -1}}, {"TasksMax": NONE}),
    ],
)
def test_each_limit_has_its_property(resources: dict[str, object], told: dict[str, int]) -> None:
    assert properties(resources) == told


def test_a_bundle_has_them_as_values_of_d_bus() -> None:
    assert annotations({"pids": {"limit": 7}}) == {"org.systemd.property.TasksMax": "uint64 7"}


def test_a_change_names_the_unit_and_is_for_its_life() -> None:
    command = change_command("/system.slice/sampan-1.scope", {"memory": {"limit": 5}, "pids": {"limit": 7}})
    assert command[-9:] == ("sampan-1.scope", "true", "2", "MemoryMax", "t", "5", "TasksMax", "t", "7")
    assert change_command("/system.slice/sampan-1.scope", {"cpu": {"shares": 2}}) == ()
