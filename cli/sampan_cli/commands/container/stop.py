"""``sampan stop``: stop containers."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("stop", examples="sampan stop web\nsampan stop -t 30 web db")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option(
    "--timeout", "--time", "-t", "timeout_s", type=int, default=None, help="Seconds before SIGKILL; -1 waits for ever."
)
@click.option("--signal", "-s", default="", help="Signal to send first.")
@click.pass_obj
def command(session: Session, /, containers: tuple[str, ...], timeout_s: int | None, signal: str) -> None:
    """Stop one or more running containers: signal, wait, SIGKILL."""

    async def work(engine: "Engine") -> int:
        from sampan_cli.app.several import for_each

        return await for_each(
            containers,
            lambda name: engine.runtime.containers.stop(name, timeout_s, signal),
        )

    session.run(work)
