"""What a pod tells the plugins of its network: CNI_ARGS, and values for the capabilities that they ask for.

Reference: CNI's CONVENTIONS.md, "Capabilities", and what kubelet's clients have come to expect as CNI_ARGS.
"""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from crid.cni.model import Network, PodRequest
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.log import log

_PORTS: Final = "portMappings"
_BANDWIDTH: Final = "bandwidth"

_INGRESS: Final = "kubernetes.io/ingress-bandwidth"
_EGRESS: Final = "kubernetes.io/egress-bandwidth"

# Kubernetes' own bounds of a pod's bandwidth, in bits per second.
_MIN_RATE: Final = 1_000
_MAX_RATE: Final = 10**15
# The plugin wants a burst with each rate, in bits; the most that it takes, so that the rate alone decides.
_BURST: Final = (1 << 32) - 1

_QUANTITY: Final = re.compile(
    r"(\d{1,18}(?:\.\d{0,9})?|\.\d{1,9})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?", re.ASCII
)
_SUFFIXES: Final = {
    **{letter: Decimal(1000) ** power for power, letter in zip(range(-3, 0), "num", strict=True)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def arguments(pod: PodRequest) -> str:
    """Return CNI_ARGS for a pod.

    Raises:
        InvalidArgumentError: a name of the pod would be read as another argument.
    """
    values = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": pod.namespace,
        "K8S_POD_NAME": pod.name,
        "K8S_POD_INFRA_CONTAINER_ID": pod.sandbox,
        "K8S_POD_UID": pod.uid,
    }
    for key, value in values.items():
        if any(sign in value for sign in ";=\0\n"):
            raise InvalidArgumentError(f"{key} is {value!r}: it may contain no ';', '=', line break or NUL byte")
    return ";".join(f"{key}={value}" for key, value in values.items())


def capabilities(pod: PodRequest, cidrs: Collection[str]) -> JsonObject:
    """Return what there is for plugins that ask for it, by the names of capabilities.

    ``cidrs`` are the ranges that this node's pods have, as kubelet has told.

    Raises:
        InvalidArgumentError: an annotation of the pod's bandwidth makes no sense.
    """
    found: JsonObject = {"io.kubernetes.cri.pod-annotations": dict(pod.annotations)}
    if ports := [_port(pod, number) for number in range(len(pod.ports)) if pod.ports[number].host_port]:
        found[_PORTS] = ports
    if rates := _rates(pod.annotations):
        found[_BANDWIDTH] = rates
    if pod.dns is not None:
        found["dns"] = {
            "servers": list(pod.dns.servers),
            "searches": list(pod.dns.searches),
            "options": list(pod.dns.options),
        }
    if cidrs:
        found["ipRanges"] = [[{"subnet": cidr}] for cidr in cidrs]
    if pod.cgroup_parent:
        found["cgroupPath"] = pod.cgroup_parent
    return found


def _port(pod: PodRequest, number: int) -> JsonObject:
    port = pod.ports[number]
    document: JsonObject = {
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": port.protocol,
    }
    return {**document, "hostIP": port.host_ip} if port.host_ip else document


def _rates(annotations: Mapping[str, str]) -> JsonObject:
    rates: JsonObject = {}
    for annotation, name in ((_INGRESS, "ingress"), (_EGRESS, "egress")):
        if text := annotations.get(annotation):
            rate = _quantity(annotation, text)
            if not _MIN_RATE <= rate <= _MAX_RATE:
                raise InvalidArgumentError(f"annotation {annotation} is {text!r}: between 1k and 1P bits per second")
            rates |= {f"{name}Rate": rate, f"{name}Burst": _BURST}
    return rates


def _quantity(annotation: str, text: str) -> int:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise InvalidArgumentError(f"annotation {annotation} is {text!r}: expected a number such as 10M")
    number, suffix, exponent = match.groups()
    factor = _SUFFIXES[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return int(Decimal(number) * factor)


def say_what_is_not_obeyed(pod: PodRequest, network: Network, values: JsonObject) -> None:
    """Log what no plugin of the network asks for. It is no error: some obey it by other ways, as Cilium does ports."""
    asked = frozenset[str]().union(*(plugin.capabilities for plugin in network.plugins))
    for name in (_PORTS, _BANDWIDTH):
        if name in values and name not in asked:
            log.warning(
                "no plugin of the network asks for what a pod wants",
                capability=name, sandbox=pod.sandbox, pod=pod.name, network=network.name,
            )  # fmt: skip
