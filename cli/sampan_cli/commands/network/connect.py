"""``sampan network connect``: join a container to a network."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import NetworkBackend


@sampan_command("connect", examples="sampan network connect --alias db backend postgres")
@click.argument("network")
@click.argument("container", shell_complete=completing.containers)
@click.option("--alias", multiple=True, help="Add network-scoped alias for the container.")
@click.option("--driver-opt", multiple=True, help="Driver options for the network.")
@click.option("--gw-priority", type=int, default=0, help="Highest gw-priority provides the default gateway.")
@click.option("--ip", default="", help="IPv4 address (e.g., 172.30.100.104).")
@click.option("--ip6", default="", help="IPv6 address (e.g., 2001:db8::33).")
@click.option("--link", multiple=True, help="Add link to another container.")
@click.option("--link-local-ip", multiple=True, help="Add a link-local address for the container.")
@click.pass_obj
def command(
    session: Session,
    /,
    network: str,
    container: str,
    alias: tuple[str, ...],
    driver_opt: tuple[str, ...],
    gw_priority: int,
    ip: str,
    ip6: str,
    link: tuple[str, ...],
    link_local_ip: tuple[str, ...],
) -> None:
    """Connect a container to a network."""

    async def work(engine: "NetworkBackend") -> None:
        from sampan.resource.container_spec import Endpoint
        from sampan_cli.options.variables import pairs

        endpoint = Endpoint(
            network=network,
            aliases=alias,
            ipv4_address=ip,
            ipv6_address=ip6,
            links=link,
            driver_options=pairs(driver_opt, "driver option"),
            link_local_ips=link_local_ip,
            gw_priority=gw_priority,
        )
        await engine.networks.connect(network, container, endpoint)

    session.run(work)
