"""What this machine cannot do is refused at create, in Docker's words, or warned of."""

import dataclasses
import re

import pytest

from runtimed.containers.check import check_spec, enforced
from runtimed.host.facts import CgroupLayout, Limits
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    DeviceLimit,
    Namespaces,
    Process,
    Resources,
    Security,
    Ulimit,
)
from tests.unit.runtimed.bundle_values import HOST, RUN

MIB = 1 << 20


def check(spec: ContainerSpec) -> tuple[str, ...]:
    return check_spec(spec, HOST, runtimes=["runc"])


def with_resources(**fields: object) -> ContainerSpec:
    return ContainerSpec(process=RUN, resources=Resources(**fields))  # type: ignore[arg-type]


def test_a_plain_container_is_fine() -> None:
    assert check(ContainerSpec(process=RUN)) == ()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"nano_cpus": 3_000_000_000},
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        ({"nano_cpus": -1}, "Range of CPUs is from 0.01"),
        ({"cpuset_cpus": "a"}, "Invalid value a for cpuset cpus"),
        ({"cpuset_cpus": "0-99999999999"}, "Invalid value 0-99999999999 for cpuset cpus"),
        ({"cpuset_cpus": "0-5"}, "Requested CPUs are not available - requested 0-5, available: 0-1"),
        ({"cpuset_mems": "7"}, "Requested memory nodes are not available - requested 7, available: 0"),
    ],
)
def test_impossible_limits_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        check(with_resources(**fields))


SECURITY = [
    (Security(cap_add=("NOSUCH",)), 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'),
    (Security(cap_drop=("cap_x",)), 'invalid CapDrop: unknown capability: "CAP_X"'),
    (Security(cap_add=("SYS_RESOURCE",)), "not supported by your kernel or not available"),
    (Security(options=("apparmor=mine",)), "AppArmor is not enabled here"),
]

OTHERS = [
    (ContainerSpec(), "no command specified"),
    (ContainerSpec(process=Process(cmd=("x",), env=("=v",))), "invalid environment variable: =v"),
    (ContainerSpec(process=Process(cmd=("x\0",))), "NUL byte"),
    (ContainerSpec(process=RUN, stop_signal="SIGNOSUCH"), "invalid signal: SIGNOSUCH"),
    (ContainerSpec(process=RUN, stop_signal="65"), "invalid signal: 65"),
    (ContainerSpec(process=RUN, runtime="x"), "unknown or invalid runtime name: x"),
    (ContainerSpec(process=RUN, sysctls={"kernel.panic": "1"}), "is not in a separate kernel namespace"),
    (
        ContainerSpec(process=RUN, sysctls={"net.core.somaxconn": "1"}, namespaces=Namespaces(network="host")),
        "not allowed in host network namespace",
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
    assert check_spec(spec, host, runtimes=[]) == (
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
        "Memory limited without swap.",
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    )


def test_limits_that_the_kernel_lacks_are_not_kept() -> None:
    none = Limits(**{field.name: False for field in dataclasses.fields(Limits)})
    asked = Resources(
        memory_bytes=64 * MIB,
        memory_reservation_bytes=32 * MIB,
        memory_swappiness=3,
        oom_kill_disable=True,
        cpu_shares=100,
        cpu_quota_us=1000,
        cpuset_cpus="0",
        pids_limit=10,
        blkio_weight=100,
        device_read_bps=(DeviceLimit("/dev/x", 1),),
        ulimits=(Ulimit("nofile", 10, 10),),
    )
    kept = enforced(asked, dataclasses.replace(HOST, limits=none))
    assert kept == Resources(memory_swap_bytes=-1, ulimits=(Ulimit("nofile", 10, 10),))
    without_swap = enforced(asked, dataclasses.replace(HOST, limits=Limits(swap=False)))
    assert without_swap == dataclasses.replace(asked, memory_swap_bytes=-1)
    assert enforced(asked, HOST) == asked


def test_a_ulimit_above_the_engines_own_is_warned_of() -> None:
    (warning,) = check(with_resources(ulimits=(Ulimit("nofile", 1024, 1 << 20),)))
    assert "nofile is 20000 instead of 1048576" in warning


def test_a_score_below_the_engines_own_is_warned_of() -> None:
    host = dataclasses.replace(HOST, oom_score_adj=0, capabilities=("CAP_CHOWN",))
    (warning,) = check_spec(with_resources(oom_score_adj=-500), host, runtimes=[])
    assert warning == "The engine may not lower OOM scores here: oom_score_adj is 0 instead of -500."
    able = dataclasses.replace(host, capabilities=("CAP_SYS_RESOURCE",))
    assert check_spec(with_resources(oom_score_adj=-500), able, runtimes=[]) == ()


def test_fewer_shares_than_control_groups_of_version_1_have_are_refused() -> None:
    old, new = (dataclasses.replace(HOST, layout=layout) for layout in (CgroupLayout.LEGACY, CgroupLayout.UNIFIED))
    with pytest.raises(InvalidArgumentError, match="the minimum allowed cpu-shares is 2"):
        check_spec(with_resources(cpu_shares=1), old, runtimes=[])
    assert check_spec(with_resources(cpu_shares=1), new, runtimes=[]) == ()
