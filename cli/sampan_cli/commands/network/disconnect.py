"""``sampan network disconnect``: take a container off a network."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import NetworkBackend


@sampan_command("disconnect", examples="sampan network disconnect backend postgres")
@click.argument("network")
@click.argument("container", shell_complete=completing.containers)
@click.option("--force", "-f", is_flag=True, help="Force the container to disconnect from the network.")
@click.pass_obj
def command(session: Session, /, network: str, container: str, force: bool) -> None:
    """Disconnect a container from a network."""

    async def work(engine: "NetworkBackend") -> None:

        await engine.networks.disconnect(network, container, force=force)

    session.run(work)
