"""``sampan tag``: give an image a further name."""

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session


@sampan_command("tag", examples="sampan tag debian:12 localhost:5000/debian:12")
@click.argument("source", shell_complete=completing.images)
@click.argument("target")
@click.pass_obj
def command(session: Session, /, source: str, target: str) -> None:
    """Create a tag TARGET that refers to the image SOURCE."""
    session.run(lambda engine: engine.tag_image(source, target))
