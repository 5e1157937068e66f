"""``sampan image inspect``: everything about images."""

from typing import TYPE_CHECKING

import click

from sampan_cli import completing
from sampan_cli.commands.inspect import finder
from sampan_cli.flags import inspect_format_option
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("inspect", examples="sampan image inspect NAME")
@click.argument("names", shell_complete=completing.images, nargs=-1, required=True)
@inspect_format_option
@click.pass_obj
def command(session: Session, /, names: tuple[str, ...], template: str) -> None:
    """Display detailed information on one or more images."""

    async def work(engine: "Engine") -> int:
        from sampan_cli.inspecting import inspect

        return await inspect(names, finder(engine, ("image",)), template)

    session.run(work)
