"""``sampan start``: start containers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The command line of ``sampan start``."""

    containers: tuple[str, ...]
    attach: bool
    interactive: bool
    detach_keys: str
    sig_proxy: bool


@sampan_command("start", examples="sampan start web\nsampan start -ai shell")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option("--attach", "-a", is_flag=True, help="Attach STDOUT and STDERR and pass signals on.")
@click.option("--interactive", "-i", is_flag=True, help="Attach the container's STDIN.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching the container.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.pass_obj
def command(
    session: Session, /, containers: tuple[str, ...], attach: bool, interactive: bool, detach_keys: str, sig_proxy: bool
) -> None:
    """Start one or more stopped containers. With -a or -i, exits with the container's exit code."""
    options = StartOptions(containers, attach, interactive, detach_keys, sig_proxy)
    session.run(lambda engine: start_containers(engine, options))


async def start_containers(engine: "ContainerBackend", options: StartOptions) -> int:
    """Start all, or start one and stand for it.

    Raises:
        InvalidArgumentError: attaching to more than one.
    """
    from sampan_cli.app.several import for_each

    if not options.attach and not options.interactive:
        return await for_each(options.containers, engine.containers.start)
    if len(options.containers) > 1:
        raise InvalidArgumentError("you cannot start and attach multiple containers at once")
    return await _in_foreground(engine, options)


async def _in_foreground(engine: "ContainerBackend", options: StartOptions) -> int:
    from sampan.errors import NotModifiedError
    from sampan_cli.streams.attached import Foreground, in_foreground
    from sampan_cli.streams.console import Console

    container = await engine.containers.get(options.containers[0])
    process = container.spec.process
    foreground = Foreground(
        container=container.id,
        stdin=options.interactive and process.open_stdin,
        stdout=True,
        stderr=True,
        tty=process.tty,
        sig_proxy=options.sig_proxy,
        detach_keys=options.detach_keys,
        removed=container.spec.auto_remove,
    )
    console = Console()
    foreground.check(console)

    async def start() -> None:
        try:
            await engine.containers.start(container.id)
        except NotModifiedError:
            return  # it runs, and we are attached

    return await in_foreground(engine, foreground, console, start)
