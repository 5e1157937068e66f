"""``sampan network inspect``: everything about networks."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.commands.system.inspect import finder
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan_cli.backend import ObjectsBackend


@sampan_command("inspect", examples="sampan network inspect NAME")
@click.argument("names", nargs=-1, required=True)
@inspect_format_option
@click.option("--verbose", "-v", is_flag=True, expose_value=False, help="As without: it adds what swarm knows.")
@click.pass_obj
def command(session: Session, /, names: tuple[str, ...], template: str) -> None:
    """Display detailed information on one or more networks."""

    async def work(engine: "ObjectsBackend") -> int:
        from sampan_cli.output.inspecting import inspect

        return await inspect(names, finder(engine, ("network",)), template)

    session.run(work)
