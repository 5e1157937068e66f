"""``sampan wait``: wait for containers to stop."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("wait", examples="sampan wait job")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.pass_obj
def command(session: Session, /, containers: tuple[str, ...]) -> None:
    """Block until one or more containers stop, then print their exit codes."""
    session.run(lambda engine: wait_for(engine, containers))


async def wait_for(engine: "Engine", containers: tuple[str, ...]) -> int:
    """Print each container's exit code, in order; return 1 if one was not found."""
    from contextlib import aclosing

    from sampan.engine import following
    from sampan.errors import SampanError, UnavailableError

    failed = 0
    for name in containers:
        try:
            async with aclosing(following.wait(engine.runtime, name)) as answers:
                async for end in answers:
                    if end is not None:
                        click.echo(str(end.code))
        except UnavailableError:
            raise  # nothing will work for the others either
        except SampanError as error:
            click.echo(f"sampan: {error}", err=True)
            failed = 1
    return failed
