"""``sampan save``: write images as an archive."""

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import platforms_option


@sampan_command("save", examples="sampan save -o images.tar debian:12 busybox\nsampan save app | ssh host sampan load")
@click.argument("images", shell_complete=completing.images, nargs=-1, required=True)
@click.option("--output", "-o", default="", help="Write to a file, instead of STDOUT.")
@platforms_option("Save this platform's images alone, such as linux/arm64; of several, indexes with those.")
@click.pass_obj
def command(session: Session, /, images: tuple[str, ...], output: str, platforms: tuple[str, ...]) -> None:
    """Save one or more images to a tar archive, streamed to STDOUT by default."""
    from sampan_cli.streams import archive_file

    session.run(lambda engine: archive_file.write(engine.save_images(images, platforms=platforms), output, "save"))
