"""What a pod tells its network's plugins."""

from dataclasses import replace
from pathlib import Path

import pytest

from crid.cni.arguments import arguments, capabilities
from crid.cni.model import Dns, PodRequest, PortMapping
from sampan.errors import InvalidArgumentError

POD = PodRequest("f" * 64, Path("/run/ns"), "web", "default", "uid-1")


def test_arguments_name_the_pod_as_kubernetes_plugins_expect() -> None:
    expected = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
        f"K8S_POD_INFRA_CONTAINER_ID={'f' * 64};K8S_POD_UID=uid-1"
    )
    assert arguments(POD) == expected


@pytest.mark.parametrize("name", ["web;IP=10.0.0.1", "a=b", "a\nb", "a\0b"])
def test_a_name_cannot_smuggle_an_argument(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="K8S_POD_NAME"):
        arguments(replace(POD, name=name))


def test_only_ports_of_the_host_are_mapped() -> None:
    ports = (PortMapping(80, 8080), PortMapping(53, 5300, "udp", "192.0.2.1"), PortMapping(9000, 0))
    assert capabilities(replace(POD, ports=ports), ())["portMappings"] == [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5300, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
    ]
    assert "portMappings" not in capabilities(replace(POD, ports=ports[2:]), ())


def test_dns_ranges_cgroup_and_annotations_are_told() -> None:
    dns = Dns(("192.0.2.53",), ("a.example",), ("ndots:5",))
    pod = replace(POD, dns=dns, cgroup_parent="/kubepods/pod1", annotations={"a": "b"})
    assert capabilities(pod, ("10.1.0.0/24", "fd00::/64")) == {
        "dns": {"servers": ["192.0.2.53"], "searches": ["a.example"], "options": ["ndots:5"]},
        "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]],
        "cgroupPath": "/kubepods/pod1",
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
    }


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10M", 10_000_000), ("1Mi", 1 << 20), ("1.5k", 1500), ("2e6", 2_000_000), ("1P", 10**15), ("5000", 5000)],
)
def test_bandwidth_is_a_quantity_of_kubernetes(text: str, rate: int) -> None:
    pod = replace(POD, annotations={"kubernetes.io/ingress-bandwidth": text})
    assert capabilities(pod, ())["bandwidth"] == {"ingressRate": rate, "ingressBurst": 4294967295}


def test_both_ways_of_bandwidth_are_told() -> None:
    annotations = {"kubernetes.io/ingress-bandwidth": "1M", "kubernetes.io/egress-bandwidth": "2M"}
    rates = capabilities(replace(POD, annotations=annotations), ())["bandwidth"]
    assert (rates["ingressRate"], rates["egressRate"]) == (1_000_000, 2_000_000)


@pytest.mark.parametrize("text", ["fast", "10MB", "1e99", "-5M", "1", "2P", "1" * 40, "٣M"])
def test_a_bandwidth_that_makes_no_sense_is_refused(text: str) -> None:
    pod = replace(POD, annotations={"kubernetes.io/egress-bandwidth": text})
    with pytest.raises(InvalidArgumentError, match=r"kubernetes\.io/egress-bandwidth"):
        capabilities(pod, ())
