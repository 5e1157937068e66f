"""``sampan top``: the processes of a container."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command(
    "top",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    examples="sampan top web\nsampan top web -o pid,comm,rss",
)
@click.argument("container", shell_complete=completing.containers)
@click.argument("ps_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(session: Session, /, container: str, ps_options: tuple[str, ...]) -> None:
    """Display the running processes of a container; what follows its name is for ps(1)."""
    session.run(lambda engine: show_processes(engine, container, " ".join(ps_options)))


async def show_processes(engine: "Engine", container: str, ps_args: str) -> None:
    """Print a table of processes."""
    from sampan_cli.output.table import table

    found = await engine.runtime.containers.top(container, ps_args)
    for line in table([found.titles, *found.rows]):
        click.echo(line.rstrip())
