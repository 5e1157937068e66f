"""``--network`` and what goes with it."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.networks import endpoints
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint


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


def parse_networks(flags: NetworkFlags) -> tuple[str, tuple[Endpoint, ...]]:
    """Return the network mode and the networks to join.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    first, *others = [_network(text) for text in flags.networks] or [Endpoint("")]
    for name, value, text in (
        ("ipv4_address", flags.ipv4, "IPv4 address"),
        ("ipv6_address", flags.ipv6, "IPv6 address"),
        ("mac_address", flags.mac_address, "MAC address"),
    ):
        if value and getattr(first, name):
            raise InvalidArgumentError(f"conflicting options: cannot specify both --network and per-network {text}")
    first = replace(
        first,
        ipv4_address=flags.ipv4 or first.ipv4_address,
        ipv6_address=flags.ipv6 or first.ipv6_address,
        mac_address=flags.mac_address or first.mac_address,
        aliases=(*first.aliases, *flags.aliases),
        links=(*first.links, *flags.links),
    )
    mode = network_mode(first.network)
    return mode, endpoints(mode, (first, *others))


def _network(text: str) -> Endpoint:
    """Parse a name, or ``name=web,alias=a,ip=10.0.0.2``."""
    if "=" not in text:
        return Endpoint(text)
    name = ""
    aliases: list[str] = []
    addresses: dict[str, Any] = {}
    options: dict[str, str] = {}
    for part in next(csv.reader([text], strict=True), []):
        key, equals, value = part.strip().partition("=")
        if not equals:
            raise InvalidArgumentError(f"invalid field {part}: must be a key=value pair")
        match key.lower():
            case "name":
                name = value
            case "alias":
                aliases.append(value)
            case "ip":
                addresses["ipv4_address"] = value
            case "ip6":
                addresses["ipv6_address"] = value
            case "mac-address":
                addresses["mac_address"] = value
            case "driver-opt":
                option, _, setting = value.partition("=")
                options[option] = setting
            case _:
                raise InvalidArgumentError(f"invalid field key {key}")
    if not name:
        raise InvalidArgumentError(f"network name is missing in {text!r}")
    return Endpoint(name, tuple(aliases), **addresses, driver_options=options)
