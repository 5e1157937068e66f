"""What the configuration says of networks: of the one that every engine has, and of those that users make."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network
from typing import Final, TypeVar

from runtimed.network.core.model import (
    DEFAULT_GATEWAY,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_MTU,
    Address,
    Network,
    Pool,
    Subnet,
)
from runtimed.network.planning import options
from sampan.errors import InvalidArgumentError
from sampan.resource.network import NetworkRequest

T = TypeVar("T")

_USUAL_MTU: Final = 1500  # what Docker shows where nothing is said


@dataclass(frozen=True, slots=True)
class DefaultBridge:
    """What the network ``bridge`` is to be."""

    pools: tuple[Pool, ...] = ()  # its addresses, one a family at most; a family without has some that nobody uses
    ipv6: bool = False
    mtu: int = 0  # 0: as usual
    icc: bool = True  # whether its containers reach each other
    masquerade: bool = True  # whether they have the host's address outside

    def of(self, network: Network) -> Network:
        """Return ``network`` with the options that are wanted."""
        said = {
            OPTION_ICC: _flag(self.icc),
            OPTION_MASQUERADE: _flag(self.masquerade),
            OPTION_MTU: str(self.mtu or _USUAL_MTU),
        }
        return replace(network, options={**network.options, **said}, enable_ipv6=self.ipv6)

    def beneath(self, network: Network) -> Network:
        """Return ``network`` with what can change while containers are on it."""
        wanted = self.of(network).options
        changed = {option: wanted[option] for option in (OPTION_ICC, OPTION_MASQUERADE)}
        return replace(network, options={**network.options, **changed})

    def pool(self, version: int) -> Pool | None:
        """Return the addresses that are wanted of a family, 4 or 6; None: some that nobody uses."""
        return next((pool for pool in self.pools if pool.subnet.version == version), None)

    @property
    def versions(self) -> tuple[int, ...]:
        """The families that it has."""
        return (4, 6) if self.ipv6 else (4,)

    def keeps(self, network: Network) -> bool:
        """Whether the addresses of ``network`` are such as are wanted, if nobody else has taken them."""
        return tuple(pool.subnet.version for pool in network.pools) == self.versions and all(
            pool == wanted if (wanted := self.pool(pool.subnet.version)) is not None else not pool.asked_for
            for pool in network.pools
        )


def make_default_bridge(
    *,
    bip: str = "",
    fixed_cidr: str = "",
    default_gateway: str = "",
    ipv6: bool = False,
    bip6: str = "",
    fixed_cidr_v6: str = "",
    default_gateway_v6: str = "",
    mtu: int = 0,
    icc: bool = True,
    masquerade: bool = True,
) -> DefaultBridge:
    """Return what dockerd's options of the same names say.

    Raises:
        InvalidArgumentError: a value that no bridge could have; the message names the key.
    """
    options.check(NetworkRequest("bridge", options={OPTION_MTU: str(mtu)}))
    for key, text in (("bip6", bip6), ("fixed_cidr_v6", fixed_cidr_v6), ("default_gateway_v6", default_gateway_v6)):
        if text and not ipv6:
            raise InvalidArgumentError(f"{key}: {text!r} is of use with ipv6 = true alone")
    keys4, keys6 = ("bip", "fixed_cidr", "default_gateway"), ("bip6", "fixed_cidr_v6", "default_gateway_v6")
    if fixed_cidr_v6 and not bip6:  # as dockerd has it: they are all of the network then
        bip6, fixed_cidr_v6 = _first_of(fixed_cidr_v6), ""
    pools = (
        _pool(4, keys4, bip, fixed_cidr, default_gateway),
        _pool(6, keys6, bip6, fixed_cidr_v6, default_gateway_v6),
    )
    return DefaultBridge(tuple(pool for pool in pools if pool is not None), ipv6, mtu, icc, masquerade)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _first_of(text: str) -> str:
    try:
        network = IPv6Network(text)
    except ValueError:
        raise InvalidArgumentError(f"fixed_cidr_v6: {text!r} is no network: 2001:db8:1::/64") from None
    return f"{network[1]}/{network.prefixlen}" if network.num_addresses > 2 else text


def _pool(version: int, keys: tuple[str, str, str], own: str, part: str, router: str) -> Pool | None:
    """Return a family's addresses, from what its three ``keys`` say."""
    key, part_key, router_key = keys
    if not own:
        for name, text in ((part_key, part), (router_key, router)):
            if text:
                raise InvalidArgumentError(f"{name}: {text!r} is in {key}'s network: set {key}, too")
        return None
    bridge = _interface(version, key, own)
    auxiliary: dict[str, Address] = {}
    if router:
        address = _parsed(ip_address, router)
        if address is None or address not in bridge.network or address in (bridge.ip, *_ends(bridge.network)):
            raise InvalidArgumentError(f"{router_key}: {router!r} is no address of another host in {bridge.network}")
        auxiliary[DEFAULT_GATEWAY[version]] = address
    return Pool(bridge.network, bridge.ip, _part(part_key, part, bridge.network, key), auxiliary)


def _interface(version: int, key: str, text: str) -> IPv4Interface | IPv6Interface:
    own = _parsed(ip_interface, text)
    example = "10.9.0.1/24" if version == 4 else "fd12:3456:789a::1/64"
    if own is None or own.version != version or "/" not in text or own.network.num_addresses < 4:
        raise InvalidArgumentError(f"{key}: {text!r} is no address of a host with its network: {example}")
    if own.ip in _ends(own.network):
        raise InvalidArgumentError(f"{key}: {text!r} is no address of a host with its network: {example}")
    if own.is_loopback or own.is_multicast or own.is_unspecified:
        raise InvalidArgumentError(f"{key}: {text!r} cannot be a bridge's address")
    return own


def _ends(network: Subnet) -> tuple[Address, ...]:
    """Return what stands for all of a network."""
    return (network[0], network[-1]) if network.version == 4 else (network[0],)


def _part(key: str, text: str, whole: Subnet, of: str) -> Subnet | None:
    if not text:
        return None
    part = _parsed(ip_network, text)
    if part is None or part.version != whole.version:
        raise InvalidArgumentError(f"{key}: {text!r} is no network")
    if not (part[0] in whole and part[-1] in whole):
        raise InvalidArgumentError(f"{key}: {text} is not in {whole}, {of}'s network")
    return part


def _parsed(parse: Callable[[str], T], text: str) -> T | None:
    try:
        return parse(text)
    except ValueError:
        return None


def parse_host_gateways(texts: Iterable[str]) -> tuple[str, ...]:
    """Read addresses that stand for the host, one a family at most. InvalidArgumentError."""
    found: dict[int, str] = {}
    for text in texts:
        address = _parsed(ip_address, text)
        if address is None or address.is_unspecified or address.is_multicast:
            raise InvalidArgumentError(f"host_gateway_ips: {text!r} is no address of a host")
        if address.version in found:
            raise InvalidArgumentError(f"host_gateway_ips: {text} is the second address of IPv{address.version}")
        found[address.version] = str(address)
    return tuple(found.values())


def parse_default_options(texts: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """Read options that networks of a driver get which do not say otherwise, as ``driver=option=value``.

    Raises:
        InvalidArgumentError: an option that the driver does not have, or that says what it cannot say.
    """
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        driver, _, rest = text.partition("=")
        option, equals, value = rest.partition("=")
        if not (driver and option and equals):
            raise InvalidArgumentError(f"default_network_opts: {text!r} is not driver=option=value")
        found.setdefault(driver, {})[option] = value
    for driver, said in found.items():
        try:
            options.check(NetworkRequest("default", driver=driver, options=said))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"default_network_opts: {error}") from error
        except KeyError:
            raise InvalidArgumentError(f"default_network_opts: no driver {driver!r} has options") from None
    return found
