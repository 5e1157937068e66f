"""``sampan rename``: give a container another name."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("rename", examples="sampan rename web web-old")
@click.argument("container", shell_complete=completing.containers)
@click.argument("new_name")
@click.pass_obj
def command(session: Session, /, container: str, new_name: str) -> None:
    """Rename a container."""

    async def work(engine: "Engine") -> None:

        await engine.runtime.containers.rename(container, new_name)

    session.run(work)
