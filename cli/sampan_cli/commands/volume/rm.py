"""``sampan volume rm``: remove volumes."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeBackend


@sampan_command("rm", examples="sampan volume rm data")
@click.argument("volumes", nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Do not fail if a volume does not exist.")
@click.pass_obj
def command(session: Session, /, volumes: tuple[str, ...], force: bool) -> None:
    """Remove one or more volumes and what is in them."""

    async def work(engine: "VolumeBackend") -> int:
        from sampan.errors import NotFoundError
        from sampan_cli.app.several import for_each

        return await for_each(
            volumes,
            lambda name: engine.volumes.remove(name, force=force),
            ignore=(NotFoundError,) if force else (),
        )

    session.run(work)
