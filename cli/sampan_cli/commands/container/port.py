"""``sampan port``: the published ports of a container."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("port", examples="sampan port web\nsampan port web 80/tcp")
@click.argument("container", shell_complete=completing.containers)
@click.argument("private_port", default="")
@click.pass_obj
def command(session: Session, /, container: str, private_port: str) -> None:
    """List port mappings or a specific mapping for the container."""
    session.run(lambda engine: show_ports(engine, container, private_port))


async def show_ports(engine: "Engine", container: str, private_port: str) -> None:
    """Print all mappings, or the host's side of one.

    Raises:
        NotFoundError: in Docker's words, that port is not published.
    """
    from sampan.docker.container_view import live_network
    from sampan.errors import NotFoundError
    from sampan_cli.output.ports import host_address

    found = await engine.runtime.containers.get(container)
    published = [
        (f"{port.container_port}/{port.protocol}", f"{host_address(port.host_ip)}:{port.host_port}")
        for port in live_network(found).ports
        if port.host_port
    ]
    if not private_port:
        for inside, outside in sorted(published):
            click.echo(f"{inside} -> {outside}")
        return
    wanted = private_port if "/" in private_port else f"{private_port}/tcp"
    matching = [outside for inside, outside in published if inside == wanted]
    if not matching:
        raise NotFoundError(f"no public port '{wanted}' published for {container}")
    for outside in matching:
        click.echo(outside)
