"""``sampan volume prune``: remove volumes that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeBackend


@sampan_command("prune", examples="sampan volume prune -f\nsampan volume prune --all --filter label=ci")
@click.option("--all", "-a", is_flag=True, help="Remove all unused volumes, not just anonymous ones.")
@prune_filter_option
@force_prune_option
@click.pass_obj
def command(session: Session, /, all: bool, filters: tuple[str, ...], force: bool) -> None:
    """Remove unused local volumes."""
    what = "all local volumes" if all else "anonymous local volumes"
    confirm(f"This will remove {what} not used by at least one container.", force=force)
    session.run(lambda engine: print_total(remove(engine, filters, named_too=all)))


async def remove(engine: "VolumeBackend", filters: tuple[str, ...], *, named_too: bool) -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    from sampan.docker.filters import parse_filters

    parsed = parse_filters(filters, ("all", "label", "label!"))
    if named_too:
        parsed["all"] = ("true",)
    answer = await engine.volumes.prune(parsed)
    if answer.removed:
        click.echo("Deleted Volumes:")
        click.echo("".join(f"{volume}\n" for volume in answer.removed))
    return answer.reclaimed_bytes
