"""``sampan export``: a container's file system as an archive."""

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session


@sampan_command("export", examples="sampan export -o web.tar web\nsampan export web | tar t")
@click.argument("container", shell_complete=completing.containers)
@click.option("--output", "-o", default="", help="Write to a file, instead of STDOUT.")
@click.pass_obj
def command(session: Session, /, container: str, output: str) -> None:
    """Export a container's filesystem as a tar archive, streamed to STDOUT by default."""
    from sampan_cli.streams import archive_file

    session.run(lambda engine: archive_file.write(engine.export_container(container), output, "export"))
