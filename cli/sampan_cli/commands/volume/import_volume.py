"""``sampan volume import``: unpack an archive into a volume."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeContentBackend


@sampan_command("import", examples="sampan volume import data data.tar\nzcat data.tar.gz | sampan volume import data")
@click.argument("volume")
@click.argument("source", required=False, default="")
@click.pass_obj
def command(session: Session, /, volume: str, source: str) -> None:
    """Import a tar archive, plain or packed, from a file or STDIN into a volume, which is made if there is none.

    What the volume has stays, but for files of the same names.
    """

    async def work(engine: "VolumeContentBackend") -> None:
        from sampan.resource.volume import VolumeRequest
        from sampan_cli.streams import archive_file

        pieces = archive_file.read("" if source == "-" else source)
        made = await engine.volumes.create(VolumeRequest(volume))
        await engine.archives.write_volume(made.name, pieces)

    session.run(work)
