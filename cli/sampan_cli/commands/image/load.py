"""``sampan load``: bring in the images of an archive."""

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import platforms_option

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend


@sampan_command("load", examples="sampan load -i images.tar\nsampan load < images.tar.gz")
@click.option("--input", "-i", "source", default="", help="Read from a tar archive file, instead of STDIN.")
@platforms_option("Load this platform alone of an image that the archive has for several.")
@click.option("--quiet", "-q", is_flag=True, help="Suppress the load output.")
@click.pass_obj
def command(session: Session, /, source: str, platforms: tuple[str, ...], quiet: bool) -> None:
    """Load images from a tar archive, plain or compressed, or from STDIN."""
    session.run(lambda engine: load_images(engine, source, platforms, quiet))


async def load_images(engine: "ImageBackend", source: str, platforms: tuple[str, ...], quiet: bool) -> None:
    """Send the archive and print what was in it."""
    from sampan.engine.progress import LayerProgress, Loaded
    from sampan_cli.output.pulling import open_view
    from sampan_cli.streams import archive_file

    terminal = sys.stdout if not quiet and sys.stdout.isatty() else None
    loaded: list[str] = []
    async with contextlib.aclosing(engine.load_images(archive_file.read(source), platforms=platforms)) as events:
        with open_view(lambda _: None, terminal) as view:
            async for event in events:
                if isinstance(event, Loaded):
                    loaded += [f"Loaded image: {name}" for name in event.references] or [
                        f"Loaded image ID: {event.image_id}"
                    ]
                elif isinstance(event, LayerProgress):
                    view.layer(event.digest.partition(":")[2][:12], event)
    for line in loaded:
        click.echo(line)
