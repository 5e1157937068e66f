"""``sampan system prune``: remove everything that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan_cli.backend import PruneBackend


@sampan_command(
    "prune", examples="sampan system prune -f\nsampan system prune -a --filter until=24h\nsampan system prune --volumes"
)
@click.option("--all", "-a", is_flag=True, help="Remove all unused images, not just dangling ones.")
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes too.")
@prune_filter_option
@force_prune_option
@click.pass_obj
def command(session: Session, /, all: bool, volumes: bool, filters: tuple[str, ...], force: bool) -> None:
    """Remove what nothing uses: containers, networks, images, build cache; without filters what broken pulls left."""
    if volumes and any(text.startswith("until=") for text in filters):  # volumes have no age to choose by
        raise click.ClickException('the "until" filter is not supported with "--volumes"')
    things = ["all stopped containers", "all networks not used by at least one container"]
    things += ["all anonymous volumes not used by at least one container"] if volumes else []
    things += ["all images without at least one container associated to them" if all else "all dangling images"]
    things += ["all build cache" if all else "unused build cache"]
    things += [] if filters else ["what broken pulls have left"]
    listed = "\n".join(f"  - {thing}" for thing in things)
    confirm(f"This will remove:\n{listed}\n", force=force)
    session.run(lambda engine: print_total(remove(engine, filters, all_images=all, volumes=volumes)))


async def remove(engine: "PruneBackend", filters: tuple[str, ...], *, all_images: bool, volumes: bool) -> int:
    """Remove containers first: what they used is free then. Return how many bytes all of it was."""
    from sampan.build.filters import PruneLimits
    from sampan.docker.filters import parse_filters
    from sampan_cli.commands.builder import prune as builder_prune
    from sampan_cli.commands.container.remove import remove_stopped
    from sampan_cli.commands.image import prune as image_prune
    from sampan_cli.commands.network import prune as network_prune
    from sampan_cli.commands.volume import prune as volume_prune

    reclaimed = await remove_stopped(engine, filters)
    await network_prune.remove(engine, filters)
    if volumes:
        reclaimed += await volume_prune.remove(engine, filters, named_too=False)
    reclaimed += await image_prune.remove(engine, filters, dangling=not all_images)
    chosen = parse_filters(filters, ("until", "label", "label!"))
    return reclaimed + await builder_prune.remove(engine, chosen, PruneLimits(all=all_images), dates=True)
