"""``sampan pause``: freeze containers."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("pause", examples="sampan pause web")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.pass_obj
def command(session: Session, /, containers: tuple[str, ...]) -> None:
    """Pause all processes within one or more containers."""

    async def work(engine: "Engine") -> int:
        from sampan_cli.app.several import for_each

        return await for_each(containers, engine.runtime.containers.pause)

    session.run(work)
