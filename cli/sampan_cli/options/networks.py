"""``--network`` and what goes with it."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.api.runtime.v1 import spec_pb2 as pb
from sampan.errors import InvalidArgumentError

_PREDEFINED = ("", "default", "bridge", "host", "none")


@dataclass(frozen=True, slots=True)
class NetworkFlags:
    """The flags that say how a container joins its first network."""

    networks: Sequence[str]
    aliases: Sequence[str] = ()
    ipv4: str = ""
    ipv6: str = ""
    mac_address: str = ""
    links: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)


def parse_networks(flags: NetworkFlags) -> tuple[str, list[pb.Endpoint]]:
    """Return the network mode and the networks to join.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    modes = [_network(text) for text in flags.networks] or [pb.Endpoint(network="")]
    first = modes[0]
    if len({mode.network for mode in modes}) < len(modes):
        raise InvalidArgumentError(f'network "{first.network}" is specified multiple times')
    if len(modes) > 1 and any(_is_predefined(mode.network) and mode.network != "bridge" for mode in modes):
        raise InvalidArgumentError(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    for name, value, text in (
        ("ipv4_address", flags.ipv4, "IPv4 address"),
        ("ipv6_address", flags.ipv6, "IPv6 address"),
        ("mac_address", flags.mac_address, "MAC address"),
    ):
        if value and getattr(first, name):
            raise InvalidArgumentError(f"conflicting options: cannot specify both --network and per-network {text}")
        setattr(first, name, value or getattr(first, name))
    first.aliases.extend(flags.aliases)
    first.links.extend(flags.links)
    if first.aliases and _is_predefined(first.network):
        raise InvalidArgumentError("network-scoped aliases are only supported for user-defined networks")
    mode = "bridge" if first.network in ("", "default") else first.network
    if mode in ("host", "none") or mode.startswith("container:"):
        return mode, []
    first.network = mode
    return mode, modes


def _is_predefined(name: str) -> bool:
    return name in _PREDEFINED or name.startswith("container:")


def _network(text: str) -> pb.Endpoint:
    """Parse a name, or ``name=web,alias=a,ip=10.0.0.2``."""
    if "=" not in text:
        return pb.Endpoint(network=text)
    endpoint = pb.Endpoint()
    for part in next(csv.reader([text], strict=True), []):
        key, equals, value = part.strip().partition("=")
        if not equals:
            raise InvalidArgumentError(f"invalid field {part}: must be a key=value pair")
        match key.lower():
            case "name":
                endpoint.network = value
            case "alias":
                endpoint.aliases.append(value)
            case "ip":
                endpoint.ipv4_address = value
            case "ip6":
                endpoint.ipv6_address = value
            case "mac-address":
                endpoint.mac_address = value
            case "driver-opt":
                name, _, setting = value.partition("=")
                endpoint.driver_options[name] = setting
            case _:
                raise InvalidArgumentError(f"invalid field key {key}")
    if not endpoint.network:
        raise InvalidArgumentError(f"network name is missing in {text!r}")
    return endpoint
