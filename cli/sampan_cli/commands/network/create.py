"""``sampan network create``: make a network."""

import ipaddress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan.resource.network import AddressPool
    from sampan_cli.backend import NetworkBackend


@dataclass(frozen=True, slots=True)
class NetworkCreateOptions:
    """The command line of ``sampan network create``."""

    name: str
    attachable: bool
    aux_address: tuple[str, ...]
    config_from: str
    config_only: bool
    driver: str
    gateway: tuple[str, ...]
    internal: bool
    ip_range: tuple[str, ...]
    ipam_driver: str
    ipam_opt: tuple[str, ...]
    ipv4: bool | None
    ipv6: bool
    label: tuple[str, ...]
    opt: tuple[str, ...]
    scope: str
    subnet: tuple[str, ...]


@sampan_command(
    "create",
    examples="""
    sampan network create backend
    sampan network create --subnet 10.20.0.0/24 --gateway 10.20.0.1 --internal db
    """,
)
@click.argument("name")
@click.option("--attachable", is_flag=True, help="Enable manual container attachment.")
@click.option("--aux-address", multiple=True, help="Auxiliary addresses used by the driver (name=address).")
@click.option("--config-from", default="", help="The network from which to copy the configuration.")
@click.option("--config-only", is_flag=True, help="Create a configuration only network.")
@click.option("--driver", "-d", default="bridge", show_default=True, help="Driver to manage the network.")
@click.option("--gateway", multiple=True, help="Gateway of a subnet.")
@click.option("--internal", is_flag=True, help="Restrict external access to the network.")
@click.option("--ip-range", multiple=True, help="Allocate container addresses from a sub-range.")
@click.option("--ipam-driver", default="default", show_default=True, help="IP address management driver.")
@click.option("--ipam-opt", multiple=True, help="IPAM driver options.")
@click.option("--ipv4/--no-ipv4", default=None, help="Enable or disable IPv4 address assignment.")
@click.option("--ipv6", is_flag=True, help="Enable IPv6 networking.")
@click.option("--label", multiple=True, help="Set metadata on the network.")
@click.option("--opt", "-o", multiple=True, help="Driver options.")
@click.option("--scope", default="", help="Control the network's scope: local.")
@click.option("--subnet", multiple=True, help="Subnet in CIDR format.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Create a network and print its ID."""
    options = from_flags(NetworkCreateOptions, flags)
    session.run(lambda engine: create_network(engine, options))


async def create_network(engine: "NetworkBackend", options: NetworkCreateOptions) -> None:
    """Create it. Raises InvalidArgumentError for a scope of swarm's, and for addresses that are in no subnet."""
    from sampan.docker.options.networks import check_scope, without_families
    from sampan.resource.network import NetworkRequest
    from sampan_cli.options.variables import labels, pairs

    check_scope(options.scope)
    network = NetworkRequest(
        name=options.name,
        driver=options.driver,
        internal=options.internal,
        attachable=options.attachable,
        enable_ipv6=options.ipv6,
        disable_ipv4=options.ipv4 is False,
        config_only=options.config_only,
        config_from=options.config_from,
        pools=tuple(_pools(options)),
        options=without_families(pairs(options.opt, "driver option"), ipv4=options.ipv4 is not None, ipv6=options.ipv6),
        labels=labels(options.label),
        ipam_driver=options.ipam_driver,
        ipam_options=pairs(options.ipam_opt, "IPAM option"),
    )
    click.echo(await engine.networks.create(network))


def _pools(options: NetworkCreateOptions) -> "list[AddressPool]":
    """Give every gateway, range and auxiliary address to the subnet that it lies in.

    Raises:
        InvalidArgumentError: in docker's words, something has no subnet, or a subnet has two of it.
    """
    from sampan.resource.network import AddressPool
    from sampan_cli.options.variables import pairs

    if max(len(options.gateway), len(options.ip_range)) > len(options.subnet):
        raise InvalidArgumentError("every ip-range or gateway must have a corresponding subnet")
    pools: list[AddressPool] = []
    for subnet in options.subnet:
        if any(_lies_in(subnet, pool.subnet) or _lies_in(pool.subnet, subnet) for pool in pools):
            raise InvalidArgumentError("multiple overlapping subnet configuration is not supported")
        pools.append(AddressPool(subnet))

    def index_of(address: str, what: str) -> int:
        for index, pool in enumerate(pools):
            if _lies_in(address, pool.subnet):
                return index
        raise InvalidArgumentError(f"no matching subnet for {what} {address}")

    for ip_range in options.ip_range:
        index = index_of(ip_range, "range")
        if before := pools[index].ip_range:
            raise InvalidArgumentError(
                f"cannot configure multiple ranges ({ip_range}, {before}) on the same subnet ({pools[index].subnet})"
            )
        pools[index] = replace(pools[index], ip_range=ip_range)
    for gateway in options.gateway:
        index = index_of(gateway, "gateway")
        if before := pools[index].gateway:
            raise InvalidArgumentError(
                f"cannot configure multiple gateways ({gateway}, {before}) for the same subnet ({pools[index].subnet})"
            )
        pools[index] = replace(pools[index], gateway=gateway)
    for name, address in pairs(options.aux_address, "auxiliary address", need_value=True).items():
        index = index_of(address, "aux-address")
        pools[index] = replace(pools[index], auxiliary={**pools[index].auxiliary, name: address})
    return pools


def _lies_in(address: str, subnet: str) -> bool:
    """Whether an address, or the first one of a range, is of a subnet; what is no address is of none."""
    try:
        network = ipaddress.ip_network(subnet, strict=False)
    except ValueError as error:
        raise InvalidArgumentError(f"invalid subnet: {error}") from error
    try:
        return ipaddress.ip_address(address.partition("/")[0]) in network
    except ValueError:
        return False
