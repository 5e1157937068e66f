"""``sampan system prune``: remove everything that nothing uses."""

from typing import TYPE_CHECKING

import click

from sampan_cli.flags import confirm, force_prune_option
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("prune", examples="sampan system prune -f\nsampan system prune -a --volumes")
@click.option("--all", "-a", is_flag=True, help="Remove all unused images, not just dangling ones.")
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes too.")
@force_prune_option
@click.pass_obj
def command(session: Session, /, all: bool, volumes: bool, force: bool) -> None:
    """Remove stopped containers, unused networks, and unused images."""
    things = ["all stopped containers", "all networks not used by at least one container"]
    things += ["all anonymous volumes not used by at least one container"] if volumes else []
    things += ["all images without at least one container associated to them" if all else "all dangling images"]
    listed = "\n".join(f"  - {thing}" for thing in things)
    confirm(f"This will remove:\n{listed}\n", force=force)
    session.run(lambda engine: prune(engine, all_images=all, volumes=volumes))


async def prune(engine: "Engine", *, all_images: bool, volumes: bool) -> None:
    """Remove containers first: what they used is free then."""
    from sampan_cli.commands import container_prune, image_prune, network_prune, volume_prune

    await container_prune.prune(engine, ())
    await network_prune.prune(engine, ())
    if volumes:
        await volume_prune.prune(engine, (), named_too=False)
    await image_prune.prune(engine, dangling=not all_images)
