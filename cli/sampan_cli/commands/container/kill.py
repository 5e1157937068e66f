"""``sampan kill``: send a signal."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("kill", examples="sampan kill web\nsampan kill -s HUP web")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option("--signal", "-s", default="", help="Signal to send to the container; SIGKILL if not given.")
@click.pass_obj
def command(session: Session, /, containers: tuple[str, ...], signal: str) -> None:
    """Kill one or more running containers."""

    async def work(engine: "Engine") -> int:
        from sampan_cli.app.several import for_each

        return await for_each(containers, lambda name: engine.runtime.containers.kill(name, signal))

    session.run(work)
