"""``sampan container prune``: remove stopped containers."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("prune", examples="sampan container prune -f\nsampan container prune --filter until=24h")
@prune_filter_option
@force_prune_option
@click.pass_obj
def command(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    """Remove all stopped containers."""
    confirm("This will remove all stopped containers.", force=force)
    session.run(lambda engine: print_total(remove(engine, filters)))


async def remove(engine: "Engine", filters: tuple[str, ...]) -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    from sampan.docker.filters import parse_filters

    answer = await engine.runtime.containers.prune(parse_filters(filters, ("until", "label", "label!")))
    if answer.removed:
        click.echo("Deleted Containers:")
        click.echo("".join(f"{container}\n" for container in answer.removed))
    return answer.reclaimed_bytes
