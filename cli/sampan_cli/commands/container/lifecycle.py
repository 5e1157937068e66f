"""Move containers between their states: stop, restart, kill, pause, unpause, wait; and rename them."""

from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sampan_cli.backend import ContainerBackend

_containers: Final = click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
_timeout: Final = click.option(
    "--timeout", "--time", "-t", "timeout_s", type=int, default=None, help="Seconds before SIGKILL; -1 waits for ever."
)
_first_signal: Final = click.option("--signal", "-s", default="", help="Signal to send first.")


def _each(
    session: Session,
    containers: tuple[str, ...],
    act: "Callable[[ContainerBackend], Callable[[str], Awaitable[object]]]",
) -> None:
    """Do one thing to every container, whatever happens to one, and print their names."""

    async def work(engine: "ContainerBackend") -> int:
        from sampan_cli.app.several import for_each

        return await for_each(containers, act(engine))

    session.run(work)


@sampan_command("stop", examples="sampan stop web\nsampan stop -t 30 web db")
@_containers
@_timeout
@_first_signal
@click.pass_obj
def stop(session: Session, /, containers: tuple[str, ...], timeout_s: int | None, signal: str) -> None:
    """Stop one or more running containers: signal, wait, SIGKILL."""
    _each(session, containers, lambda engine: lambda name: engine.containers.stop(name, timeout_s, signal))


@sampan_command("restart", examples="sampan restart web")
@_containers
@_timeout
@_first_signal
@click.pass_obj
def restart(session: Session, /, containers: tuple[str, ...], timeout_s: int | None, signal: str) -> None:
    """Restart one or more containers."""
    _each(session, containers, lambda engine: lambda name: engine.containers.restart(name, timeout_s, signal))


@sampan_command("kill", examples="sampan kill web\nsampan kill -s HUP web")
@_containers
@click.option("--signal", "-s", default="", help="Signal to send to the container; SIGKILL if not given.")
@click.pass_obj
def kill(session: Session, /, containers: tuple[str, ...], signal: str) -> None:
    """Kill one or more running containers."""
    _each(session, containers, lambda engine: lambda name: engine.containers.kill(name, signal))


@sampan_command("pause", examples="sampan pause web")
@_containers
@click.pass_obj
def pause(session: Session, /, containers: tuple[str, ...]) -> None:
    """Pause all processes within one or more containers."""
    _each(session, containers, lambda engine: engine.containers.pause)


@sampan_command("unpause", examples="sampan unpause web")
@_containers
@click.pass_obj
def unpause(session: Session, /, containers: tuple[str, ...]) -> None:
    """Unpause all processes within one or more containers."""
    _each(session, containers, lambda engine: engine.containers.unpause)


@sampan_command("wait", examples="sampan wait job")
@_containers
@click.pass_obj
def wait(session: Session, /, containers: tuple[str, ...]) -> None:
    """Block until one or more containers stop, then print their exit codes."""
    session.run(lambda engine: _wait_for(engine, containers))


async def _wait_for(engine: "ContainerBackend", containers: tuple[str, ...]) -> int:
    """Print each container's exit code, in order; return 1 if one was not found."""
    from contextlib import aclosing

    from sampan.engine import following
    from sampan.errors import SampanError, UnavailableError

    failed = 0
    for name in containers:
        try:
            async with aclosing(following.wait(engine, name)) as answers:
                async for end in answers:
                    if end is not None:
                        click.echo(str(end.code))
        except UnavailableError:
            raise  # nothing will work for the others either
        except SampanError as error:
            click.echo(f"sampan: {error}", err=True)
            failed = 1
    return failed


@sampan_command("rename", examples="sampan rename web web-old")
@click.argument("container", shell_complete=completing.containers)
@click.argument("new_name")
@click.pass_obj
def rename(session: Session, /, container: str, new_name: str) -> None:
    """Rename a container."""

    async def work(engine: "ContainerBackend") -> None:
        await engine.containers.rename(container, new_name)

    session.run(work)
