"""A step as a container."""

from dataclasses import replace

import pytest

from runtimed.cgroups.naming import CgroupNames
from runtimed.steps.spec import container_of, targets_in_root
from sampan.build.step import SnapshotSource, StepMount, StepNetwork, StepProcess, StepSecurity, StepSpec, TmpfsSource
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Resources, Ulimit

SPEC = StepSpec("0123456789ab", StepProcess(("make", "all"), ("A=b",), "/src", "web"), "root")


def test_it_is_confined_as_a_container_with_a_cgroup_beside_the_containers() -> None:
    made = container_of(SPEC, CgroupNames("sampan"))
    assert (made.id, made.name, made.cgroup_path) == (SPEC.id, "", "/sampan/steps/0123456789ab")
    assert made.spec.process.args == ("make", "all")
    assert (made.spec.process.working_dir, made.spec.process.user) == ("/src", "web")
    assert not made.spec.security.privileged
    assert made.spec.hostname == "buildkitsandbox"
    assert made.spec.namespaces.network == "bridge"


def test_what_is_asked_for_is_passed_on() -> None:
    asked = replace(
        SPEC,
        root_read_only=True,
        hostname="here",
        network=StepNetwork.HOST,
        security=StepSecurity.INSECURE,
        resources=Resources(memory_bytes=8 << 20, cgroup_parent="/mine/"),
    )
    made = container_of(asked, CgroupNames("sampan"))
    assert made.cgroup_path == "/mine/0123456789ab"
    assert (made.spec.security.privileged, made.spec.security.read_only_root) == (True, True)
    assert (made.spec.namespaces.network, made.spec.hostname, made.spec.resources.memory_bytes) == (
        "host", "here", 8 << 20,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mounts", "why"),
    [
        ((StepMount("", TmpfsSource()),), "not absolute"),
        ((StepMount("a/b", TmpfsSource()),), "not absolute"),
        ((StepMount("/a\0b", TmpfsSource()),), "not absolute"),
        ((StepMount("/a/..", TmpfsSource()),), "that is its root"),
        ((StepMount("/a", TmpfsSource()), StepMount("/b/../a/", SnapshotSource("k"))), "two mounts"),
        ((StepMount("/a", TmpfsSource(-1)),), "invalid size -1"),
        ((StepMount("/a", SnapshotSource("k", "b\0c")),), "NUL"),
    ],
)
def test_a_bad_mount_is_refused(mounts: tuple[StepMount, ...], why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        container_of(replace(SPEC, mounts=mounts), CgroupNames("sampan"))


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        (Resources(cgroup_parent="../../.."), "invalid cgroup parent: ../../.."),
        (Resources(cgroup_parent="/a/../b"), "invalid cgroup parent"),
        (Resources(ulimits=(Ulimit("nonsense", 1, 1),)), "invalid ulimit type: nonsense"),
        (Resources(memory_bytes=5), "Minimum memory limit"),
    ],
)
def test_a_bad_limit_is_refused(resources: Resources, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        container_of(replace(SPEC, resources=resources), CgroupNames("sampan"))


def test_a_root_must_be_named() -> None:
    with pytest.raises(InvalidArgumentError, match="needs the key of a snapshot"):
        container_of(replace(SPEC, root=""), CgroupNames("sampan"))


def test_targets_in_others_and_in_what_the_kernel_shows_are_not_the_roots() -> None:
    targets = ("/src", "/src/cache", "/srcs", "/proc/stat", "/dev/shm", "/a/../etc")
    mounts = tuple(StepMount(target, TmpfsSource()) for target in targets)
    assert targets_in_root(replace(SPEC, mounts=mounts)) == ("/src", "/srcs", "/etc")
