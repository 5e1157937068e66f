"""What a pod may be asked to be."""

from dataclasses import replace

import pytest

from crid.model.config import DNSConfig, PodConfig, PodMetadata, PortMapping, Windows
from crid.model.security import (
    IDMapping,
    NamespaceMode,
    NamespaceOption,
    Number,
    ProfileType,
    SandboxSecurity,
    SecurityProfile,
    UserNamespace,
)
from crid.sandboxes.check import check_pod, check_sysctls
from sampan.errors import InvalidArgumentError
from tests.unit.crid.world import pod

POD, NODE = NamespaceMode.POD, NamespaceMode.NODE
RANGE = (IDMapping(100_000, 0, 65536),)


def named(**said: object) -> PodConfig:
    return replace(pod(), metadata=replace(pod().metadata, **said))  # type: ignore[arg-type]


def secured(**security: object) -> PodConfig:
    made = pod()
    return replace(made, linux=replace(made.linux, security_context=SandboxSecurity(**security)))  # type: ignore[arg-type]


def below(parent: str) -> PodConfig:
    return replace(pod(), linux=replace(pod().linux, cgroup_parent=parent))


def of_users(users: UserNamespace, network: NamespaceMode = POD) -> PodConfig:
    return secured(namespace_options=NamespaceOption(network, NamespaceMode.CONTAINER, userns_options=users))


@pytest.mark.parametrize(
    "config",
    [
        pod(),
        pod(options=NamespaceOption(NODE, NODE, NODE)),
        pod(dns_config=DNSConfig(("10.0.0.1", "fe80::1%eth0"), ("svc.cluster.local",), ("ndots:5",))),
        pod(port_mappings=(PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"),)),
        of_users(UserNamespace(POD, RANGE, RANGE)),
        of_users(UserNamespace(NODE)),
        replace(pod(), hostname=""),
        below("/kubepods/burstable/pod1"),
        below("kubepods-pod1..2.slice"),
    ],
)
def test_what_can_be_meant_is_taken(config: PodConfig) -> None:
    check_pod(config, "", ("",))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (named(name=""), "metadata.name is empty"),
        (named(namespace=""), "metadata.namespace is empty"),
        (named(uid=""), "metadata.uid is empty"),
        (named(name="a/b"), "metadata.name is 'a/b'"),
        (replace(pod(), windows=Windows()), "windows"),
        (replace(pod(), metadata=PodMetadata()), "metadata.name"),
        (replace(pod(), hostname="a b"), "hostname is 'a b'"),
        (below("/kubepods/../../other"), "linux.cgroup_parent is '/kubepods/../../other'"),
        (below("/kube\npods"), "linux.cgroup_parent is"),
        (below("a" * 1025), "linux.cgroup_parent is"),
        (replace(pod(), hostname="a" * 65), "hostname is"),
        (replace(pod(), hostname="-a"), "hostname is '-a'"),
        (replace(pod(), log_directory="logs"), "log_directory is 'logs'"),
        (replace(pod(), log_directory="/l\0gs"), "log_directory is"),
        (pod(dns_config=DNSConfig(("nonsense",))), "dns_config.servers has 'nonsense'"),
        (pod(dns_config=DNSConfig(searches=("a b",))), "dns_config has 'a b'"),
        (pod(dns_config=DNSConfig(options=("a\nb",))), "dns_config has"),
        (pod(dns_config=DNSConfig(searches=("a" * 5000,))), "longer than 4096"),
        (pod(port_mappings=(PortMapping(container_port=-1),)), "container_port is -1"),
        (pod(port_mappings=(PortMapping(host_port=80),)), "leads to no container_port"),
        (pod(port_mappings=(PortMapping(container_port=80, host_ip="x"),)), "host_ip is 'x'"),
        (pod(options=NamespaceOption(NamespaceMode.CONTAINER)), "namespace_options.network"),
        (pod(options=NamespaceOption(pid=NamespaceMode.TARGET)), "cannot be TARGET"),
        (secured(run_as_group=Number(1)), "run_as_group needs run_as_user"),
        (secured(seccomp=SecurityProfile(ProfileType.Localhost)), "security_context.seccomp"),
        (of_users(UserNamespace(POD)), "one mapping of uids"),
        (of_users(UserNamespace(POD, RANGE, (IDMapping(1, 0, 1),))), "the same of gids"),
        (of_users(UserNamespace(POD, (IDMapping(1, 5, 1),), (IDMapping(1, 5, 1),))), "begins at 0"),
        (of_users(UserNamespace(NamespaceMode.CONTAINER)), "userns_options.mode"),
        (of_users(UserNamespace(POD, RANGE, RANGE), NODE), "none of the host's others"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(config: PodConfig, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        check_pod(config, "", ("",))


OWN, HOST = NamespaceOption(), NamespaceOption(NODE, POD, NODE)


@pytest.mark.parametrize(
    "name",
    ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax", "kernel/sem", "fs.mqueue.msg_max"],
)
def test_sysctls_of_the_pod_s_namespaces_are_taken_and_the_host_s_are_not(name: str) -> None:
    check_sysctls({name: "1"}, OWN)
    with pytest.raises(InvalidArgumentError, match="is the host's"):
        check_sysctls({name: "1"}, HOST)


@pytest.mark.parametrize(
    "name", ["kernel.panic", "vm.swappiness", "net", "net/../kernel/panic", "net..x", "kernel.shm", ""]
)
def test_other_sysctls_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="sysctl"):
        check_sysctls({name: "1"}, OWN)


@pytest.mark.parametrize("parent", ["", "kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"])
def test_systemd_takes_pods_in_slices(parent: str) -> None:
    check_pod(below(parent), "", ("",), "systemd")


def test_systemd_takes_no_pod_in_a_directory() -> None:
    with pytest.raises(InvalidArgumentError, match="'/kubepods/pod1': with the cgroup driver systemd a slice"):
        check_pod(below("/kubepods/pod1"), "", ("",), "systemd")
    check_pod(below("/kubepods/pod1"), "", ("",), "cgroupfs")
