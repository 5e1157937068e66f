"""What ``info`` says of a host: what that host has, and nothing that nobody looked at."""

from dataclasses import replace
from pathlib import Path

import pytest

from sampan.docker.views.info_view import EngineFacts, info_json, info_of
from sampan.resource.snapshot import DriversReport
from sampan.resource.stats import HostInfo, OciRuntimeInfo

HOST = HostInfo(
    default_runtime="runc",
    runtimes=(
        OciRuntimeInfo("runc", "/usr/bin/runc", "1.1", usable=True, features='{"mountOptions":["rro"]}'),
        OciRuntimeInfo("crun", "/usr/bin/crun", "1.8", usable=True),
        OciRuntimeInfo("kata", "/opt/kata", "3", usable=False, reason="no /dev/kvm"),
    ),
)

LIMITS = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "CpuCfsPeriod": "cpu_quota",
    "CpuCfsQuota": "cpu_quota",
    "CPUShares": "cpu_shares",
    "CPUSet": "cpuset",
    "PidsLimit": "pids",
    "OomKillDisable": "oom_kill_disable",
}


def shown(host: HostInfo) -> dict[str, object]:
    return info_json(EngineFacts(host, DriversReport("overlayfs", "ext4", ()), 0, Path("/data")))


@pytest.mark.parametrize("limit", sorted(set(LIMITS.values())))
def test_limits_are_those_that_the_kernel_has(limit: str) -> None:
    told = shown(replace(HOST, limits=(limit,)))
    assert {name for name in LIMITS if told[name]} == {name for name, known in LIMITS.items() if known == limit}


@pytest.mark.parametrize("forwards", [False, True])
def test_forwarding_is_the_kernels(forwards: bool) -> None:
    assert shown(replace(HOST, ipv4_forwarding=forwards))["IPv4Forwarding"] is forwards


def test_control_groups_are_made_by_whom_the_configuration_says() -> None:
    assert shown(replace(HOST, cgroup_driver="systemd"))["CgroupDriver"] == "systemd"


def test_runtimes_that_work_are_shown_with_their_features_where_they_tell_any() -> None:
    features = {"org.opencontainers.runtime-spec.features": '{"mountOptions":["rro"]}'}
    told = shown(HOST)
    assert told["Runtimes"] == {
        "runc": {"path": "/usr/bin/runc", "status": features},
        "crun": {"path": "/usr/bin/crun"},
    }
    assert info_of(told, (1, 44))["Runtimes"] == told["Runtimes"]
    assert info_of(told, (1, 43))["Runtimes"] == {
        "runc": {"path": "/usr/bin/runc"},
        "crun": {"path": "/usr/bin/crun"},
    }


def test_address_pools_are_shown_if_there_are_any() -> None:
    pools = ("10.200.0.0/16:24", "fd12:3456:789a::/48:64")
    assert shown(replace(HOST, default_address_pools=pools))["DefaultAddressPools"] == [
        {"Base": "10.200.0.0/16", "Size": 24},
        {"Base": "fd12:3456:789a::/48", "Size": 64},
    ]
    assert "DefaultAddressPools" not in shown(HOST)


def test_the_init_program_is_the_one_that_is_installed() -> None:
    told = shown(replace(HOST, init_path="/usr/bin/tini-static"))
    assert told["InitBinary"] == "/usr/bin/tini-static"
    assert (told["InitCommit"], told["ContainerdCommit"]) == ({"ID": "N/A"}, {"ID": "N/A"})
    assert told["RuncCommit"] == {"ID": "1.1"}
