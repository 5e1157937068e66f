"""``sampan image prune``: remove images that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.flags import confirm, force_prune_option
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("prune", examples="sampan image prune -f\nsampan image prune -a")
@click.option("--all", "-a", is_flag=True, help="Remove all unused images, not just dangling ones.")
@force_prune_option
@click.pass_obj
def command(session: Session, /, all: bool, force: bool) -> None:
    """Remove unused images: those without a name, or with --all those that no container uses."""
    what = "all images without at least one container associated to them" if all else "all dangling images"
    confirm(f"This will remove {what}.", force=force)
    session.run(lambda engine: prune(engine, dangling=not all))


async def prune(engine: "Engine", *, dangling: bool) -> None:
    """Remove them and say what was removed."""
    from sampan_cli.output.units import human_size

    untagged, deleted, reclaimed = await engine.prune_images(dangling=dangling)
    if untagged or deleted:
        click.echo("Deleted Images:")
        click.echo("".join(f"untagged: {name}\n" for name in untagged), nl=False)
        click.echo("".join(f"deleted: {identity}\n" for identity in deleted))
    click.echo(f"Total reclaimed space: {human_size(reclaimed)}")
