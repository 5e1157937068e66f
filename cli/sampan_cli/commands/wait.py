"""``sampan wait``: wait for containers to stop."""

from typing import TYPE_CHECKING

import click

from sampan_cli import completing
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

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
    from sampan.api.runtime.v1 import containers_pb2 as pb
    from sampan.errors import SampanError, UnavailableError
    from sampan.wire.channel import rpc_errors

    failed = 0
    for name in containers:
        try:
            with rpc_errors():
                async for answer in engine.containers.Wait(pb.WaitContainerRequest(container=name)):
                    if not answer.waiting:
                        click.echo(str(answer.exit_code))
        except UnavailableError:
            raise  # nothing will work for the others either
        except SampanError as error:
            click.echo(f"sampan: {error}", err=True)
            failed = 1
    return failed
