"""``sampan attach``: attach to a running container."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@sampan_command("attach", examples="sampan attach shell\nsampan attach --no-stdin --no-sig-proxy web")
@click.argument("container", shell_complete=completing.containers)
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching the container.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.pass_obj
def command(session: Session, /, container: str, no_stdin: bool, detach_keys: str, sig_proxy: bool) -> None:
    """Attach local standard input, output and error streams to a running container.

    Exits with the container's exit code, or with 1 after the detach keys (ctrl-p, ctrl-q).
    """
    session.run(lambda engine: attach(engine, container, not no_stdin, detach_keys, sig_proxy))


async def attach(engine: "ContainerBackend", name: str, stdin: bool, detach_keys: str, sig_proxy: bool) -> int:
    """Stand for a running container.

    Raises:
        ConflictError: in Docker's words, it does not run.
        DetachedError: the user detached.
    """
    from sampan.errors import ConflictError
    from sampan.resource.container import Status
    from sampan_cli.streams.attached import Foreground, in_foreground
    from sampan_cli.streams.console import Console

    container = await engine.containers.get(name)
    refusals = {
        Status.PAUSED: "You cannot attach to a paused container, unpause it first",
        Status.RESTARTING: "You cannot attach to a restarting container, wait until it is running",
    }
    status = container.state.status
    if status is not Status.RUNNING:
        raise ConflictError(refusals.get(status, "You cannot attach to a stopped container, start it first"))
    process = container.spec.process
    foreground = Foreground(
        container=container.id,
        stdin=stdin and process.open_stdin,
        stdout=True,
        stderr=True,
        tty=process.tty,
        sig_proxy=sig_proxy,
        detach_keys=detach_keys,
        removed=container.spec.auto_remove,
    )
    console = Console()
    foreground.check(console)
    return await in_foreground(engine, foreground, console, None)
