"""``sampan update``: change the limits of containers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sampan.docker.sizes import parse_size
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.cpus import nano_cpus
from sampan_cli.options.flags import from_flags
from sampan_cli.options.types import Parsed

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend

_SIZE = Parsed("bytes", parse_size)


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """The command line of ``sampan update``; 0 leaves a limit as it is."""

    containers: tuple[str, ...]
    blkio_weight: int
    cpu_period_us: int
    cpu_quota_us: int
    cpu_realtime_period_us: int
    cpu_realtime_runtime_us: int
    cpu_shares: int
    nano_cpus: int
    cpuset_cpus: str
    cpuset_mems: str
    memory_bytes: int
    memory_reservation_bytes: int
    memory_swap_bytes: int
    pids_limit: int
    restart: str


@sampan_command("update", examples="sampan update --memory 1g --cpus 2 web\nsampan update --restart always web db")
@click.argument("containers", shell_complete=completing.containers, nargs=-1, required=True)
@click.option("--blkio-weight", type=int, default=0, help="Block IO weight, 10 to 1000.")
@click.option("--cpu-period", "cpu_period_us", type=int, default=0, help="Limit the CPU CFS period (microseconds).")
@click.option("--cpu-quota", "cpu_quota_us", type=int, default=0, help="Limit the CPU CFS quota (microseconds).")
@click.option(
    "--cpu-rt-period",
    "cpu_realtime_period_us",
    type=int,
    default=0,
    help="Limit the CPU real-time period (microseconds).",
)
@click.option(
    "--cpu-rt-runtime",
    "cpu_realtime_runtime_us",
    type=int,
    default=0,
    help="Limit the CPU real-time runtime (microseconds).",
)
@click.option("--cpu-shares", "-c", type=int, default=0, help="CPU shares (relative weight).")
@click.option("--cpus", "nano_cpus", type=Parsed("decimal", nano_cpus), default=0, help="Number of CPUs.")
@click.option("--cpuset-cpus", default="", help="CPUs in which to allow execution (0-3, 0,1).")
@click.option("--cpuset-mems", default="", help="Memory nodes in which to allow execution (0-3, 0,1).")
@click.option("--memory", "-m", "memory_bytes", type=_SIZE, default=0, help="Memory limit.")
@click.option("--memory-reservation", "memory_reservation_bytes", type=_SIZE, default=0, help="Memory soft limit.")
@click.option(
    "--memory-swap",
    "memory_swap_bytes",
    type=Parsed("bytes", lambda text: -1 if text == "-1" else parse_size(text)),
    default=0,
    help="Memory plus swap; -1 for unlimited swap.",
)
@click.option("--pids-limit", type=int, default=0, help="Tune the pids limit; -1 for unlimited.")
@click.option("--restart", default="", help="Restart policy to apply when a container exits.")
@click.pass_context
def command(context: click.Context, /, **flags: object) -> None:
    """Update configuration of one or more containers."""
    session: Session = context.obj
    given = {name for name in flags if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given == {"containers"}:
        raise CommandError("you must provide one or more flags when using this command")
    options = from_flags(UpdateOptions, flags)
    session.run(lambda engine: update_containers(engine, options))


async def update_containers(engine: "ContainerBackend", options: UpdateOptions) -> int:
    """Change each container; return 1 if one could not be."""
    from sampan.docker.options.restart import parse_restart
    from sampan.resource.container_spec import Resources
    from sampan_cli.app.several import for_each

    names = [name for name in UpdateOptions.__slots__ if name not in ("containers", "restart")]
    resources = Resources(**{name: getattr(options, name) for name in names})
    policy = parse_restart(options.restart) if options.restart else None

    async def update(name: str) -> None:
        for warning in await engine.containers.update(name, resources, policy):
            click.echo(f"WARNING: {warning}", err=True)

    return await for_each(options.containers, update)
