"""Which addresses networks have, and which a container gets. Arithmetic only; the caller knows what is in use."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from runtimed.network.core.model import Address, Network, Pool, Subnet
from sampan.errors import InvalidArgumentError, ResourceExhaustedError

OVERLAP: Final = "Pool overlaps with other one on this address space"

# Docker's default pools, in its order: a /16 each from 172.17 on, then 192.168 in pieces of /20.
DEFAULT_POOLS: Final = (
    *((IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPv4Network("192.168.0.0/16"), 20),
)

_UNUSABLE: Final[dict[str, tuple[Subnet, ...]]] = {
    "of the machine itself": (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
    "of no network in particular": (IPv4Network("0.0.0.0/8"),),
    "of groups": (IPv4Network("224.0.0.0/4"), IPv6Network("ff00::/8")),
}


def local_prefix(identity: str) -> IPv6Network:
    """Return the unique local addresses of whoever ``identity`` names: fd, forty digits that follow from it, /48.

    Reference: RFC 4193, section 3.2.
    """
    digits = hashlib.sha256(identity.encode()).digest()[:5]
    return IPv6Network((b"\xfd" + digits + bytes(10), 48))


def parse_default_pools(texts: Iterable[str]) -> tuple[tuple[Subnet, int], ...]:
    """Read pools to choose from as a configuration has them: ``10.200.0.0/16:24``, networks of /24 out of a /16.

    Raises:
        InvalidArgumentError: it is none, or larger than what it is taken from.
    """
    pools = []
    for text in texts:
        base, _, size = text.rpartition(":")
        try:
            network = ip_network(base)
            prefix = int(size)
        except ValueError:
            raise InvalidArgumentError(
                f"invalid address pool {text!r}: expected a network and a prefix length, as 10.200.0.0/16:24"
            ) from None
        if not network.prefixlen <= prefix <= network.max_prefixlen - 2:
            raise InvalidArgumentError(f"invalid address pool {text!r}: no network of /{prefix} is in {network}")
        pools.append((network, prefix))
    return tuple(pools)


def choose_pool(taken: Iterable[Subnet], bases: Sequence[tuple[Subnet, int]] = DEFAULT_POOLS, version: int = 4) -> Pool:
    """Return the first network of a family, 4 or 6, that overlaps nothing in ``taken``, with its gateway.

    Args:
        taken: by whomever.
        bases: what to choose from, each with the prefix length of a network.
        version: the family.

    Raises:
        ResourceExhaustedError: all overlap something.
    """
    busy = [other for other in taken if other.version == version]
    for base, prefix in bases:
        if base.version != version:
            continue
        near = [other for other in busy if _overlap(base, other)]
        for subnet in base.subnets(new_prefix=prefix):
            if not any(_overlap(subnet, other) for other in near):
                return Pool(subnet, gateway=subnet[1], asked_for=False)
    raise ResourceExhaustedError(
        "all predefined address pools have been fully subnetted"
        if version == 4
        else "could not find an available, non-overlapping IPv6 address pool among the defaults "
        "to assign to the network"
    )


def overlaps(subnet: Subnet, others: Iterable[Subnet]) -> bool:
    """Tell whether two have addresses in common."""
    return any(_overlap(subnet, other) for other in others)


def _overlap(one: Subnet, other: Subnet) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def parse_pool(subnet: str, gateway: str, ip_range: str, auxiliary: dict[str, str]) -> Pool:
    """Read a pool as a user writes it.

    Raises:
        InvalidArgumentError: not addresses, or not in the subnet.
        ResourceExhaustedError: it has no address for a gateway.
    """
    network = _network(subnet, "subnet")
    _check_usable(network)
    inner = _network(ip_range, "ip-range") if ip_range else None
    if inner is not None and not _within(inner, network):
        raise InvalidArgumentError(f"invalid ip-range {ip_range}: it is not in subnet {subnet}")
    taken = {name: _inside(text, network, f"auxiliary address {name}") for name, text in auxiliary.items()}
    if network.prefixlen > network.max_prefixlen - (2 if network.version == 4 else 1):
        raise ResourceExhaustedError(f"failed to allocate gateway ({gateway}): No available addresses on this pool")
    # The range's first address when there is one, as in Docker: an address plan in the user's head starts there.
    first = inner[0] if inner is not None and inner[0] != network[0] else (inner or network)[1]
    chosen = _inside(gateway, network, "gateway") if gateway else _skip(first, set(taken.values()), network)
    if chosen in _ends(network):
        raise InvalidArgumentError(
            f"failed to allocate gateway ({chosen}): Address already in use: it stands for all of subnet {network}"
        )
    if chosen in taken.values():
        raise InvalidArgumentError(f"gateway {chosen} is also an auxiliary address")
    return Pool(network, chosen, inner, taken)


def allocate(network: Network, in_use: Collection[Address], asked: str = "", version: int = 4) -> tuple[Address, Pool]:
    """Return an address of a family for a container and the pool it is from: the one asked for, or the lowest free one.

    Raises:
        InvalidArgumentError: the address asked for is in no pool of the network's.
        ResourceExhaustedError: it is in use, or none is left.
    """
    if asked:
        return _static(network, version, in_use, asked)
    for pool in network.pools_of(version):
        for address in _candidates(pool):
            if address not in in_use:
                return address, pool
    raise ResourceExhaustedError(
        f"no available IPv{version} addresses on this network's address pools: {network.name} ({network.id})"
    )


def check_static(network: Network, asked: str, version: int = 4) -> Address:
    """Return the address of a family that was asked for.

    Raises:
        InvalidArgumentError: not an address, or not possible on this network, in Docker's words.
    """
    address = _address(asked, f"IPv{version} address")
    if address.version != version:
        raise InvalidArgumentError(f"invalid IPv{version} address: {asked}")
    if not network.user_defined:
        raise InvalidArgumentError("user specified IP address is supported on user defined networks only")
    pools = network.pools_of(version)
    if not any(pool.asked_for for pool in pools):
        raise InvalidArgumentError(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    if not any(address in pool.subnet for pool in pools):
        raise InvalidArgumentError(
            f"no configured subnet or ip-range contain the IP address {address}: network {network.name} has "
            + ", ".join(str(pool.subnet) for pool in pools)
        )
    return address


def _static(network: Network, version: int, in_use: Collection[Address], asked: str) -> tuple[Address, Pool]:
    address = check_static(network, asked, version)
    pool = next(pool for pool in network.pools if address in pool.subnet)
    if address in in_use or address in _reserved(pool):
        raise ResourceExhaustedError("Address already in use")
    return address, pool


def _candidates(pool: Pool) -> Iterator[Address]:
    reserved = _reserved(pool)
    space = pool.ip_range or pool.subnet
    return (address for address in _walk(space) if address not in reserved)


def _walk(space: Subnet) -> Iterator[Address]:
    return (space[index] for index in range(space.num_addresses))


def _reserved(pool: Pool) -> set[Address]:
    reserved = {*_ends(pool.subnet), *pool.auxiliary.values()}
    return reserved | ({pool.gateway} if pool.gateway else set())


def _ends(network: Subnet) -> set[Address]:
    """Return what stands for all of a subnet: its first address, and with IPv4 its last one."""
    return {network[0]} | ({network[-1]} if network.version == 4 else set())


def _skip(first: Address, taken: set[Address], network: Subnet) -> Address:
    address = first
    while address in taken:
        address += 1
    if address not in network or address in _ends(network):
        raise InvalidArgumentError(f"no address is left for the gateway of subnet {network}")
    return address


def _within(inner: Subnet, outer: Subnet) -> bool:
    return inner.version == outer.version and inner[0] in outer and inner[-1] in outer


def _network(text: str, what: str) -> Subnet:
    try:
        if "/" in text:  # without it, a length that was forgotten would mean a network of one address
            return ip_network(text, strict=False)
    except ValueError:
        pass
    raise InvalidArgumentError(f"invalid {what} {text}: expected a network such as 10.1.0.0/16")


def _check_usable(network: Subnet) -> None:
    """Refuse what no interface can have addresses of, or what would take those of the machine itself."""
    for kind, spaces in _UNUSABLE.items():
        if overlaps(network, spaces):
            raise InvalidArgumentError(f"invalid subnet {network}: it has addresses {kind}")


def _inside(text: str, network: Subnet, what: str) -> Address:
    address = _address(text, what)
    if address not in network:
        raise InvalidArgumentError(f"invalid {what} {text}: it is not in subnet {network}")
    return address


def _address(text: str, what: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid {what} {text}: expected an address such as 10.1.0.2") from None
