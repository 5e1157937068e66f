"""``sampan network ls``: list networks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from sampan_cli.backend import NetworkBackend

_HEADERS: Final = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_TABLE: Final = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")


@dataclass(frozen=True, slots=True)
class NetworkLsOptions:
    """The command line of ``sampan network ls``."""

    filters: tuple[str, ...]
    template: str
    no_trunc: bool
    quiet: bool


@sampan_command("ls", examples="sampan network ls\nsampan network ls --filter driver=bridge -q")
@filter_option
@format_option
@no_trunc_option
@click.option("--quiet", "-q", is_flag=True, help="Only display network IDs.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """List networks."""
    options = from_flags(NetworkLsOptions, flags)
    session.run(lambda engine: list_networks(engine, options))


async def list_networks(engine: "NetworkBackend", options: NetworkLsOptions) -> None:
    """Print the networks that match."""
    from sampan.docker.filters import parse_filters
    from sampan.docker.times import local_moment
    from sampan_cli.output.table import print_list

    found = await engine.networks.list(parse_filters(options.filters, _FILTERS))
    rows = [
        {
            "ID": network.id if options.no_trunc else network.id[:12],
            "Name": network.name,
            "Driver": network.driver,
            "Scope": "local",
            "IPv4": str(not network.disable_ipv4).lower(),
            "IPv6": str(network.enable_ipv6).lower(),
            "Internal": str(network.internal).lower(),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(network.labels.items())),
            "CreatedAt": local_moment(network.created),
        }
        for network in sorted(found, key=lambda network: network.name)
    ]
    if options.quiet and not options.template:
        for row in rows:
            click.echo(row["ID"])
        return
    print_list(rows, options.template, _HEADERS, _TABLE, click.echo)
