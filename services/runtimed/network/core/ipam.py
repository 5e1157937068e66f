"""Which addresses networks have, and which a container gets. Arithmetic only; the caller knows what is in use."""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from runtimed.network.core.model import Network, Pool
from sampan.errors import InvalidArgumentError, ResourceExhaustedError

OVERLAP: Final = "Pool overlaps with other one on this address space"

# Docker's default pools, in its order: a /16 each from 172.17 on, then 192.168 in pieces of /20.
DEFAULT_POOLS: Final = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)


def choose_pool(taken: Iterable[IPv4Network]) -> Pool:
    """Return the first default pool that overlaps nothing in ``taken``, with its gateway.

    Raises:
        ResourceExhaustedError: all overlap something.
    """
    busy = list(taken)
    for subnet in DEFAULT_POOLS:
        if not any(subnet.overlaps(other) for other in busy):
            return Pool(subnet, gateway=subnet[1], asked_for=False)
    raise ResourceExhaustedError("all predefined address pools have been fully subnetted")


def parse_pool(subnet: str, gateway: str, ip_range: str, auxiliary: dict[str, str]) -> Pool:
    """Read a pool as a user writes it.

    Raises:
        InvalidArgumentError: not addresses, or not in the subnet.
    """
    network = _network(subnet, "subnet")
    if network.prefixlen > 30:
        raise InvalidArgumentError(f"invalid subnet {subnet}: a bridge network needs at least 2 usable addresses")
    inner = _network(ip_range, "ip-range") if ip_range else None
    if inner is not None and not inner.subnet_of(network):
        raise InvalidArgumentError(f"invalid ip-range {ip_range}: it is not in subnet {subnet}")
    taken = {name: _inside(text, network, f"auxiliary address {name}") for name, text in auxiliary.items()}
    # The range's first address when there is one, as in Docker: an address plan in the user's head starts there.
    first = inner[0] if inner is not None and inner[0] != network[0] else (inner or network)[1]
    chosen = _inside(gateway, network, "gateway") if gateway else _skip(first, set(taken.values()), network)
    if chosen in (network.network_address, network.broadcast_address):
        raise InvalidArgumentError(
            f"failed to allocate gateway ({chosen}): Address already in use: it stands for all of subnet {network}"
        )
    if chosen in taken.values():
        raise InvalidArgumentError(f"gateway {chosen} is also an auxiliary address")
    return Pool(network, chosen, inner, taken)


def allocate(network: Network, in_use: Collection[IPv4Address], asked: str = "") -> tuple[IPv4Address, Pool]:
    """Return an address for a container and the pool it is from: the one asked for, or the lowest free one.

    Raises:
        InvalidArgumentError: the address asked for is in no pool of the network's.
        ResourceExhaustedError: it is in use, or none is left.
    """
    if asked:
        return _static(network, in_use, asked)
    for pool in network.pools:
        for address in _candidates(pool):
            if address not in in_use:
                return address, pool
    raise ResourceExhaustedError(
        f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})"
    )


def check_static(network: Network, asked: str) -> IPv4Address:
    """Return the address asked for.

    Raises:
        InvalidArgumentError: not an address, or not possible on this network, in Docker's words.
    """
    address = _address(asked, "IPv4 address")
    if not network.user_defined:
        raise InvalidArgumentError("user specified IP address is supported on user defined networks only")
    if not any(pool.asked_for for pool in network.pools):
        raise InvalidArgumentError(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    if not any(address in pool.subnet for pool in network.pools):
        raise InvalidArgumentError(
            f"no configured subnet or ip-range contain the IP address {address}: network {network.name} has "
            + ", ".join(str(pool.subnet) for pool in network.pools)
        )
    return address


def _static(network: Network, in_use: Collection[IPv4Address], asked: str) -> tuple[IPv4Address, Pool]:
    address = check_static(network, asked)
    pool = next(pool for pool in network.pools if address in pool.subnet)
    if address in in_use or address in _reserved(pool):
        raise ResourceExhaustedError("Address already in use")
    return address, pool


def _candidates(pool: Pool) -> Iterator[IPv4Address]:
    reserved = _reserved(pool)
    space = pool.ip_range or pool.subnet
    return (address for address in _walk(space) if address not in reserved)


def _walk(space: IPv4Network) -> Iterator[IPv4Address]:
    return (space[index] for index in range(space.num_addresses))


def _reserved(pool: Pool) -> set[IPv4Address]:
    reserved = {pool.subnet.network_address, pool.subnet.broadcast_address, *pool.auxiliary.values()}
    return reserved | ({pool.gateway} if pool.gateway else set())


def _skip(first: IPv4Address, taken: set[IPv4Address], network: IPv4Network) -> IPv4Address:
    address = first
    while address in taken:
        address += 1
    if address not in network or address == network.broadcast_address:
        raise InvalidArgumentError(f"no address is left for the gateway of subnet {network}")
    return address


def _network(text: str, what: str) -> IPv4Network:
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        raise InvalidArgumentError(f"invalid {what} {text}: expected an IPv4 network such as 10.1.0.0/16") from None


def _inside(text: str, network: IPv4Network, what: str) -> IPv4Address:
    address = _address(text, what)
    if address not in network:
        raise InvalidArgumentError(f"invalid {what} {text}: it is not in subnet {network}")
    return address


def _address(text: str, what: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid {what} {text}: expected an address such as 10.1.0.2") from None
