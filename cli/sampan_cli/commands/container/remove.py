"""Remove containers: those that are named, or all that are stopped."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@sampan_command("rm", examples="sampan rm web\nsampan rm -f $(sampan ps -aq)")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Remove running containers too, with SIGKILL.")
@click.option("--volumes", "-v", is_flag=True, help="Remove anonymous volumes of the container.")
@click.option("--link", "-l", is_flag=True, help="Remove the named link instead of a container.")
@click.pass_obj
def rm(session: Session, /, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> None:
    """Remove one or more containers."""

    async def work(engine: "ContainerBackend") -> int:
        from sampan.docker.options.networks import link_of
        from sampan.errors import NotFoundError
        from sampan_cli.app.several import for_each

        async def one(name: str) -> None:
            if link:
                await engine.containers.unlink(*link_of(name))
                return
            await engine.containers.remove(name, force=force, volumes=volumes)

        # With --force what is not there is no failure: that is what was wanted.
        ignore = (NotFoundError,) if force else ()
        return await for_each(containers, one, ignore=ignore)

    session.run(work)


@sampan_command("prune", examples="sampan container prune -f\nsampan container prune --filter until=24h")
@prune_filter_option
@force_prune_option
@click.pass_obj
def prune(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    """Remove all stopped containers."""
    confirm("This will remove all stopped containers.", force=force)
    session.run(lambda engine: print_total(remove_stopped(engine, filters)))


async def remove_stopped(engine: "ContainerBackend", filters: tuple[str, ...]) -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    from sampan.docker.filters import parse_filters

    answer = await engine.containers.prune(parse_filters(filters, ("until", "label", "label!")))
    if answer.removed:
        click.echo("Deleted Containers:")
        click.echo("".join(f"{container}\n" for container in answer.removed))
    return answer.reclaimed_bytes
