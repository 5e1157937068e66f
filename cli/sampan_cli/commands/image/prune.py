"""``sampan image prune``: remove images that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend


@sampan_command("prune", examples="sampan image prune -f\nsampan image prune -a --filter until=24h")
@click.option("--all", "-a", is_flag=True, help="Remove all unused images, not just dangling ones.")
@prune_filter_option
@force_prune_option
@click.pass_obj
def command(session: Session, /, all: bool, filters: tuple[str, ...], force: bool) -> None:
    """Remove unused images: those without a name, or with --all those that no container uses."""
    what = "all images without at least one container associated to them" if all else "all dangling images"
    confirm(f"This will remove {what}.", force=force)
    session.run(lambda engine: print_total(remove(engine, filters, dangling=not all)))


async def remove(engine: "ImageBackend", filters: tuple[str, ...], *, dangling: bool) -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    from sampan.docker.filters import parse_filters

    parsed = parse_filters(filters, ("until", "label", "label!"))
    wanted = {key: list(values) for key, values in parsed.items()}
    pruned = await engine.prune_images(wanted | {"dangling": [str(dangling).lower()]})
    if pruned.steps:
        click.echo("Deleted Images:")
        click.echo("".join(f"{'untagged' if step.untagged else 'deleted'}: {step.name}\n" for step in pruned.steps))
    return pruned.reclaimed_bytes
