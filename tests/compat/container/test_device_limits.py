"""Limits for single block devices, seen in the container's control group, and limits that this kernel has not."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import docker as sdk_package
import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine

Run = Callable[..., Result]

_FILES = {
    "--device-read-bps": ("blkio.throttle.read_bps_device", "rbps="),
    "--device-write-bps": ("blkio.throttle.write_bps_device", "wbps="),
    "--device-read-iops": ("blkio.throttle.read_iops_device", "riops="),
    "--device-write-iops": ("blkio.throttle.write_iops_device", "wiops="),
}


@pytest.fixture
def device() -> str:
    """A whole block device of this machine."""
    for name in sorted(os.listdir("/sys/block")):
        path = Path("/dev", name)
        if not name.startswith(("loop", "ram", "zram", "sr")) and path.exists() and stat.S_ISBLK(path.stat().st_mode):
            return str(path)
    pytest.skip("no block device with a node in /dev")


@pytest.mark.parametrize("flag", _FILES)
def test_rate_of_a_device_is_limited(run: Run, device: str, flag: str) -> None:
    old, new = _FILES[flag]
    value, shown = ("1mb", "1048576") if flag.endswith("bps") else ("1000", "1000")
    number = Path(device).stat().st_rdev
    script = f"cd /sys/fs/cgroup; cat blkio/{old} 2>/dev/null || tr ' ' '\\n' < io.max | grep {new}"
    result = run(script, flag, f"{device}:{value}")
    assert result.line in (f"{os.major(number)}:{os.minor(number)} {shown}", f"{new}{shown}"), result


def test_sampan_takes_the_same_flags(engine: Engine, image: str, device: str) -> None:
    script = "cat /sys/fs/cgroup/blkio/blkio.throttle.read_iops_device 2>/dev/null || cat /sys/fs/cgroup/io.max"
    shown = engine.sampan("run", "--rm", "--device-read-iops", f"{device}:1000", image, "sh", "-c", script)
    assert "1000" in shown.stdout
    failed = engine.sampan_fails("run", "--rm", "--device-read-bps", "/dev/null", image, "true")
    assert "bad format: /dev/null" in failed.stderr


def test_device_that_is_not_there_is_named(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--device-read-bps", "/dev/no-such:1mb", image, "true")
    assert failed.code in (125, 127)
    assert "stat /dev/no-such: no such file or directory" in failed.stderr


def test_what_is_no_block_device_is_refused(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--device-read-bps", "/dev/null:1mb", image, "true")
    assert failed.code != 0
    if not TARGET:
        assert "/dev/null is not a block device" in failed.stderr


def test_size_that_no_quota_can_hold_is_refused(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--storage-opt", "size=1G", image, "true")
    assert failed.code == 125
    assert "--storage-opt is supported only for overlay over xfs with 'pquota' mount option" in failed.stderr


@pytest.mark.skipif(Path("/sys/fs/cgroup/cpu/cpu.rt_period_us").exists(), reason="this kernel has real-time groups")
def test_real_time_without_such_groups_is_refused(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--cpu-rt-runtime", "950000", image, "true")
    assert failed.code == 125
    assert "Your kernel does not support CPU real-time scheduler" in failed.stderr


def test_disabled_network_leaves_a_container_alone(sdk: sdk_package.DockerClient, image: str) -> None:
    made = sdk.api.create_container(image, ["ls", "/sys/class/net"], network_disabled=True)
    sdk.api.start(made["Id"])
    sdk.api.wait(made["Id"])
    assert sdk.api.logs(made["Id"]).split() == [b"lo"]
    sdk.api.remove_container(made["Id"])
