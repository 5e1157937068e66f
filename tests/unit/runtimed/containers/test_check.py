"""What is refused at create, in Docker's words, and what is warned of."""

import dataclasses
import re

import pytest

from runtimed.containers.check import check_spec
from runtimed.host.facts import Limits
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    Device,
    HealthCheck,
    LogConfig,
    Mount,
    MountType,
    Namespaces,
    Process,
    Resources,
    RestartPolicy,
    Security,
    Ulimit,
)
from tests.unit.runtimed.bundle_values import HOST, RUN

MIB = 1 << 20


def check(spec: ContainerSpec) -> tuple[str, ...]:
    return check_spec(spec, HOST, runtimes=["runc"], log_drivers=["json-file"])


def with_resources(**fields: object) -> ContainerSpec:
    return ContainerSpec(process=RUN, resources=Resources(**fields))  # type: ignore[arg-type]


def test_a_plain_container_is_fine() -> None:
    assert check(ContainerSpec(process=RUN)) == ()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"memory_bytes": 4 * MIB}, "Minimum memory limit allowed is 6MB"),
        ({"memory_bytes": 20 * MIB, "memory_swap_bytes": 10 * MIB}, "Minimum memoryswap limit should be larger than"),
        ({"memory_swap_bytes": 10 * MIB}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"memory_reservation_bytes": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"memory_bytes": 8 * MIB, "memory_reservation_bytes": 9 * MIB}, "can not be less than memory reservation"),
        ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        (
            {"nano_cpus": 3_000_000_000},
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        ({"nano_cpus": -1}, "Range of CPUs is from 0.01"),
        ({"nano_cpus": 10**9, "cpu_period_us": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"cpu_period_us": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_quota_us": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_shares": -1}, "invalid CPU shares (-1)"),
        ({"cpuset_cpus": "a"}, "Invalid value a for cpuset cpus"),
        ({"cpuset_cpus": "0-99999999999"}, "Invalid value 0-99999999999 for cpuset cpus"),
        ({"cpuset_cpus": "0-5"}, "Requested CPUs are not available - requested 0-5, available: 0-1"),
        ({"cpuset_mems": "7"}, "Requested memory nodes are not available - requested 7, available: 0"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"oom_score_adj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        ({"shm_size_bytes": -1}, "SHM size can not be less than 0"),
        ({"ulimits": (Ulimit("nofile", 10, 5),)}, "ulimit soft limit must be less than or equal to hard limit: 10 > 5"),
        ({"ulimits": (Ulimit("nofile", -5, -5),)}, "invalid ulimit nofile"),
        ({"ulimits": (Ulimit("nosuch", 1, 1),)}, "invalid ulimit type: nosuch"),
        ({"device_cgroup_rules": ("c 1:x rw",)}, "invalid device cgroup rule format: 'c 1:x rw'"),
        ({"devices": (Device("/dev/null", "/dev/null", "q"),)}, "invalid device mode: q"),
    ],
)
def test_impossible_limits_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        check(with_resources(**fields))


SECURITY = [
    (Security(cap_add=("NOSUCH",)), 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'),
    (Security(cap_drop=("cap_x",)), 'invalid CapDrop: unknown capability: "CAP_X"'),
    (Security(cap_add=("SYS_RESOURCE",)), "not supported by your kernel or not available"),
    (Security(options=("nonsense",)), 'invalid --security-opt 2: "nonsense"'),
    (Security(options=("foo=bar",)), 'invalid --security-opt 1: "foo=bar"'),
    (Security(options=("seccomp={",)), "Decoding seccomp profile failed"),
    (Security(options=("seccomp=[]",)), "Decoding seccomp profile failed"),
    (Security(options=("apparmor=mine",)), "AppArmor is not enabled here"),
]

OTHERS = [
    (ContainerSpec(), "no command specified"),
    (ContainerSpec(process=Process(cmd=("x",), env=("=v",))), "invalid environment variable: =v"),
    (ContainerSpec(process=Process(cmd=("x\0",))), "NUL byte"),
    (ContainerSpec(process=Process(cmd=("x",), working_dir="tmp")), "the working directory 'tmp' is invalid"),
    (ContainerSpec(process=RUN, stop_signal="SIGNOSUCH"), "invalid signal: SIGNOSUCH"),
    (ContainerSpec(process=RUN, stop_signal="65"), "invalid signal: 65"),
    (ContainerSpec(process=RUN, runtime="x"), "unknown or invalid runtime name: x"),
    (ContainerSpec(process=RUN, log=LogConfig("syslog")), "logger: no log driver named 'syslog' is registered"),
    (ContainerSpec(process=RUN, restart_policy=RestartPolicy("often")), "unknown policy 'often'"),
    (ContainerSpec(process=RUN, restart_policy=RestartPolicy("always", 3)), "can only be used with 'on-failure'"),
    (
        ContainerSpec(process=RUN, restart_policy=RestartPolicy("always"), auto_remove=True),
        "can't create 'AutoRemove' container with restart policy",
    ),
    (ContainerSpec(process=RUN, namespaces=Namespaces(pid="bogus")), "invalid PID mode: bogus"),
    (ContainerSpec(process=RUN, namespaces=Namespaces(ipc="container:")), "invalid IPC mode: container:"),
    (ContainerSpec(process=RUN, namespaces=Namespaces(uts="host"), hostname="x"), "hostname and the UTS mode"),
    (ContainerSpec(process=RUN, sysctls={"kernel.panic": "1"}), "is not in a separate kernel namespace"),
    (
        ContainerSpec(process=RUN, sysctls={"net.core.somaxconn": "1"}, namespaces=Namespaces(network="host")),
        "not allowed in host network namespace",
    ),
    (ContainerSpec(process=RUN, hostname="a b"), "invalid hostname format: a b"),
    (ContainerSpec(process=RUN, health_check=HealthCheck(interval_s=1e-6)), "Interval in Healthcheck cannot be less"),
    (ContainerSpec(process=RUN, health_check=HealthCheck(retries=-1)), "Retries in Healthcheck cannot be negative"),
    (
        ContainerSpec(process=RUN, mounts=(Mount(MountType.TMPFS, "/x", options=("lowerdir=/etc",)),)),
        'invalid tmpfs option "lowerdir=/etc"',
    ),
]


@pytest.mark.parametrize(
    ("spec", "text"), [*((ContainerSpec(process=RUN, security=security), text) for security, text in SECURITY), *OTHERS]
)
def test_what_cannot_be_meant_is_refused(spec: ContainerSpec, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        check(spec)


def test_limits_that_the_kernel_lacks_are_warned_of() -> None:
    host = dataclasses.replace(HOST, limits=Limits(swap=False, pids=False))
    spec = with_resources(memory_bytes=64 * MIB, pids_limit=10)
    assert check_spec(spec, host, runtimes=[], log_drivers=[]) == (
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
        "Memory limited without swap.",
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    )


def test_a_ulimit_above_the_engines_own_is_warned_of() -> None:
    (warning,) = check(with_resources(ulimits=(Ulimit("nofile", 1024, 1 << 20),)))
    assert "nofile is 20000 instead of 1048576" in warning
