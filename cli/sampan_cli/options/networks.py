"""``--network`` and what goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.networks import endpoints
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint
from sampan_cli.options.types import flag_fields


@dataclass(frozen=True, slots=True)
class NetworkFlags:
    """The flags that say how a container joins its first network."""

    networks: Sequence[str]
    aliases: Sequence[str] = ()
    ipv4: str = ""
    ipv6: str = ""
    mac_address: str = ""
    links: Sequence[str] = ()
    link_local: Sequence[str] = ()


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
        link_local_ips=(*first.link_local_ips, *flags.link_local),
    )
    mode = network_mode(first.network)
    return mode, endpoints(mode, (first, *others))


def _network(text: str) -> Endpoint:
    """Parse a name, or ``name=web,alias=a,ip=10.0.0.2``."""
    if "=" not in text:
        return Endpoint(text)
    aliases: list[str] = []
    options: dict[str, str] = {}
    local: list[str] = []
    priority = 0
    fields: dict[str, str] = {}
    for part in flag_fields("--network", text):
        key, equals, value = part.strip().partition("=")
        if not equals:
            raise InvalidArgumentError(f"invalid field {part}: must be a key=value pair")
        match key.lower():
            case "alias":
                aliases.append(value)
            case "driver-opt":
                option, _, setting = value.partition("=")
                options[option] = setting
            case "link-local-ip":
                local.append(value)
            case "gw-priority":
                priority = _priority(value)
            case "name" | "ip" | "ip6" | "mac-address" as known:
                fields[known] = value
            case _:
                raise InvalidArgumentError(f"invalid field key {key}")
    if not fields.get("name"):
        raise InvalidArgumentError(f"network name is missing in {text!r}")
    return Endpoint(
        fields["name"],
        tuple(aliases),
        ipv4_address=fields.get("ip", ""),
        ipv6_address=fields.get("ip6", ""),
        mac_address=fields.get("mac-address", ""),
        driver_options=options,
        link_local_ips=tuple(local),
        gw_priority=priority,
    )


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid gw-priority ({text}): expected a whole number") from None
