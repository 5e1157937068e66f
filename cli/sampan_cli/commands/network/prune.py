"""``sampan network prune``: remove networks that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option

if TYPE_CHECKING:
    from sampan_cli.backend import NetworkBackend


@sampan_command("prune", examples="sampan network prune -f")
@prune_filter_option
@force_prune_option
@click.pass_obj
def command(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    """Remove all networks not used by at least one container."""
    confirm("This will remove all custom networks not used by at least one container.", force=force)
    session.run(lambda engine: remove(engine, filters))


async def remove(engine: "NetworkBackend", filters: tuple[str, ...]) -> None:
    """Remove what matches and say what was removed."""
    from sampan.docker.filters import parse_filters

    removed = await engine.networks.prune(parse_filters(filters, ("until", "label", "label!")))
    if removed:
        click.echo("Deleted Networks:")
        click.echo("".join(f"{network}\n" for network in removed))
