"""``sampan down``: stop the engine."""

import signal
import time
from typing import TYPE_CHECKING

import click

from sampan.layout import Layout
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.supervisor import roots

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@sampan_command("down", examples="sampan down\nsampan down --containers")
@click.option("--containers", is_flag=True, help="Stop all running containers first.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Wait at most this many seconds for the engine to end.",
)  # fmt: skip
@click.pass_obj
def command(session: Session, containers: bool, timeout_s: float) -> None:
    """Stop the engine and return when it is gone.

    Running containers keep running, and the engine finds them again when it comes back. With --containers they are
    stopped first.
    """
    processes = engine_processes(session.here("down"))
    if not processes:
        click.echo(f"sampan: no engine is running on {session.layout.run_root}", err=True)
        return
    if containers:
        session.run(stop_containers)
    stop(processes, timeout_s)


def engine_processes(layout: Layout) -> list[roots.Process]:
    """Return what has to end, in this order: the supervisor, or the services that a killed one left."""
    supervisor = roots.supervisor(layout)
    if supervisor is not None:
        return [supervisor]
    return list(reversed(roots.services(layout)))


def stop(processes: list[roots.Process], timeout_s: float) -> None:
    """Ask each process to end and wait for it.

    Raises:
        CommandError: one still runs after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.signal(signal.SIGTERM)
        if not process.wait(max(0.0, deadline - time.monotonic())):
            raise CommandError(f"{process.name} (pid {process.pid}) still runs after {timeout_s:g} s")
        process.close()


async def stop_containers(engine: "ContainerBackend") -> None:
    """Stop every container that runs, all at once."""
    import asyncio

    from sampan.resource.listing import EVERYONE, Selection

    listed = await engine.containers.list(Selection(owner=EVERYONE))
    async with asyncio.TaskGroup() as stops:
        for container in listed:
            stops.create_task(_stop(engine, container.id))


async def _stop(engine: "ContainerBackend", container: str) -> None:
    from sampan.errors import NotFoundError, NotModifiedError

    try:
        await engine.containers.stop(container)
    except (NotModifiedError, NotFoundError):
        return  # it ended by itself, and may have been removed with that
