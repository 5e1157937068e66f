"""``sampan rmi``: remove images."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import platforms_option

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend


@sampan_command("rmi", examples="sampan rmi debian:12\nsampan rmi $(sampan images -q --filter dangling=true)")
@click.argument("images", shell_complete=completing.images, nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Force removal of the image.")
@click.option("--no-prune", is_flag=True, help="Do not delete untagged parents.")
@platforms_option("Remove only this platform of an index.")
@click.pass_obj
def command(
    session: Session, /, images: tuple[str, ...], force: bool, no_prune: bool, platforms: tuple[str, ...]
) -> None:
    """Remove one or more images."""
    session.run(lambda engine: remove_images(engine, images, force=force, no_prune=no_prune, platforms=platforms))


async def remove_images(
    engine: "ImageBackend", images: tuple[str, ...], *, force: bool, no_prune: bool, platforms: tuple[str, ...]
) -> int:
    """Remove each and say what went; return 1 if one could not be removed."""
    from sampan.errors import NotFoundError, SampanError, UnavailableError

    code = 0
    for image in images:
        try:
            steps = await engine.remove_image(image, force=force, no_prune=no_prune, platforms=platforms)
        except UnavailableError:
            raise  # nothing will work for the others either
        except SampanError as error:
            click.echo(f"sampan: {error}", err=True)
            # With --force what is not there is no failure: that is what was wanted.
            code = code if force and isinstance(error, NotFoundError) else 1
            continue
        for step in steps:
            click.echo(f"{'Untagged' if step.untagged else 'Deleted'}: {step.name}")
    return code
