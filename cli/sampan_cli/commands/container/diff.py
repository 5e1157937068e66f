"""``sampan diff``: what a container has changed in its file system."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("diff", examples="sampan diff web")
@click.argument("container", shell_complete=completing.containers)
@click.pass_obj
def command(session: Session, /, container: str) -> None:
    """Inspect changes to files or directories on a container's filesystem: A added, C changed, D deleted."""
    session.run(lambda engine: show_changes(engine, container))


async def show_changes(engine: "Engine", container: str) -> None:
    """Print one line per changed path."""
    from sampan.engine.changes import container_changes
    from sampan.resource.container import ChangeKind

    letters = {ChangeKind.ADDED: "A", ChangeKind.MODIFIED: "C", ChangeKind.DELETED: "D"}
    for change in await container_changes(engine, container):
        click.echo(f"{letters[change.kind]} {change.path}")
