"""``sampan rm``: remove containers."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("rm", examples="sampan rm web\nsampan rm -f $(sampan ps -aq)")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Remove running containers too, with SIGKILL.")
@click.option("--volumes", "-v", is_flag=True, help="Remove anonymous volumes of the container.")
@click.option("--link", "-l", is_flag=True, help="Remove the named link instead of a container.")
@click.pass_obj
def command(session: Session, /, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> None:
    """Remove one or more containers."""

    async def work(engine: "Engine") -> int:
        from sampan.errors import InvalidArgumentError, NotFoundError
        from sampan_cli.app.several import for_each

        if link:
            raise InvalidArgumentError(
                "removing a link is not supported by this engine: legacy links go with their container"
            )

        async def remove(name: str) -> None:
            await engine.runtime.containers.remove(name, force=force, volumes=volumes)

        # With --force what is not there is no failure: that is what was wanted.
        ignore = (NotFoundError,) if force else ()
        return await for_each(containers, remove, ignore=ignore)

    session.run(work)
