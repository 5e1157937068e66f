"""What no machine can do is refused, in Docker's words, by whoever is asked."""

import re

import pytest

from sampan.docker.options.check import check_options
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

MIB = 1 << 20


def test_a_container_of_which_nothing_is_said_is_fine() -> None:
    check_options(ContainerSpec())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"memory_bytes": 4 * MIB}, "Minimum memory limit allowed is 6MB"),
        ({"memory_bytes": 20 * MIB, "memory_swap_bytes": 10 * MIB}, "Minimum memoryswap limit should be larger than"),
        ({"memory_swap_bytes": 10 * MIB}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"memory_reservation_bytes": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"memory_bytes": 8 * MIB, "memory_reservation_bytes": 9 * MIB}, "can not be less than memory reservation"),
        ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"nano_cpus": 10**9, "cpu_period_us": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"cpu_period_us": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_quota_us": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_shares": -1}, "invalid CPU shares (-1)"),
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
        check_options(ContainerSpec(resources=Resources(**fields)))  # type: ignore[arg-type]


SECURITY = [
    (Security(options=("nonsense",)), 'invalid --security-opt 1: "nonsense"'),
    (Security(options=("foo=bar",)), 'invalid --security-opt 2: "foo=bar"'),
    (Security(options=("seccomp={",)), "Decoding seccomp profile failed"),
    (Security(options=("seccomp=[]",)), "Decoding seccomp profile failed"),
    (Security(options=("seccomp=" + "[" * 100_000,)), "Decoding seccomp profile failed"),
]

OTHERS = [
    (ContainerSpec(process=Process(cmd=("x",), working_dir="tmp")), "the working directory 'tmp' is invalid"),
    (ContainerSpec(log=LogConfig("splunk")), "logger: no log driver named 'splunk' is registered"),
    (ContainerSpec(restart_policy=RestartPolicy("often")), "unknown policy 'often'"),
    (ContainerSpec(restart_policy=RestartPolicy("always", 3)), "can only be used with 'on-failure'"),
    (
        ContainerSpec(restart_policy=RestartPolicy("always"), auto_remove=True),
        "can't create 'AutoRemove' container with restart policy",
    ),
    (ContainerSpec(namespaces=Namespaces(pid="bogus")), "invalid PID mode: bogus"),
    (ContainerSpec(namespaces=Namespaces(ipc="container:")), "invalid IPC mode: container:"),
    (ContainerSpec(namespaces=Namespaces(uts="host"), hostname="x"), "hostname and the UTS mode"),
    (ContainerSpec(hostname="a b"), "invalid hostname format: a b"),
    (ContainerSpec(health_check=HealthCheck(interval_s=1e-6)), "Interval in Healthcheck cannot be less"),
    (ContainerSpec(health_check=HealthCheck(retries=-1)), "Retries in Healthcheck cannot be negative"),
    (
        ContainerSpec(mounts=(Mount(MountType.TMPFS, "/x", options=("lowerdir=/etc",)),)),
        'invalid tmpfs option "lowerdir=/etc"',
    ),
    (ContainerSpec(extra_hosts=("db",)), 'bad format for add-host: "db"'),
    (ContainerSpec(anonymous_volumes=("data",)), "invalid mount path: 'data' mount path must be absolute"),
]


@pytest.mark.parametrize(
    ("spec", "text"), [*((ContainerSpec(security=security), text) for security, text in SECURITY), *OTHERS]
)
def test_what_cannot_be_meant_is_refused(spec: ContainerSpec, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        check_options(spec)


def test_an_annotation_without_a_key_is_refused() -> None:
    check_options(ContainerSpec(annotations={"a": ""}))
    with pytest.raises(InvalidArgumentError, match="not permitted as an annotation key"):
        check_options(ContainerSpec(annotations={"": "a"}))
