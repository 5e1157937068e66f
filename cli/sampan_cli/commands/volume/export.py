"""``sampan volume export``: write what is in a volume as an archive."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeContentBackend


@sampan_command("export", examples="sampan volume export -o data.tar data\nsampan volume export data | ssh host tar t")
@click.argument("volume")
@click.option("--output", "-o", default="", help="Write to a file, instead of STDOUT.")
@click.pass_obj
def command(session: Session, /, volume: str, output: str) -> None:
    """Export a volume's content as a tar archive, streamed to STDOUT by default.

    Owners, modes, times, links and extended attributes are kept. A volume with options is mounted meanwhile.
    """

    async def work(engine: "VolumeContentBackend") -> None:
        from sampan_cli.streams import archive_file

        await archive_file.write(engine.archives.read_volume(volume), output, "export")

    session.run(work)
