"""What is to be known of one container: everything, its ports, its processes, its changed files."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.commands.system.inspect import finder
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend, ObjectsBackend

from collections.abc import Iterable

from sampan.resource.container import PublishedPort


def shown_ports(ports: Iterable[PublishedPort]) -> str:
    """Return ``443/tcp, 0.0.0.0:8080->80/tcp`` as docker's client does.

    Ports that are the same on both sides, and those that are not published, come first, neighbours as one range.
    """
    alike: dict[tuple[str, str], list[list[int]]] = {}  # by address and protocol: the first and last of each range
    closed, mapped = [], []
    for port in sorted(ports, key=lambda port: (port.container_port, _address(port), port.host_port, port.protocol)):
        address, number = _address(port), port.container_port
        if address and port.host_port != number:
            mapped.append(f"{host_address(address)}:{port.host_port}->{number}/{port.protocol}")
            continue
        runs = alike.setdefault((address, port.protocol), [])
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
            continue
        if runs:
            closed.append(_shown(address, port.protocol, *runs[-1]))
        runs.append([number, number])
    last = [_shown(address, protocol, *runs[-1]) for (address, protocol), runs in alike.items()]
    return ", ".join([*closed, *last, *mapped])


def _address(port: PublishedPort) -> str:
    return (port.host_ip or "0.0.0.0") if port.host_port else ""


def _shown(address: str, protocol: str, first: int, last: int) -> str:
    span = str(first) if first == last else f"{first}-{last}"
    return f"{host_address(address)}:{span}->{span}/{protocol}" if address else f"{span}/{protocol}"


def host_address(address: str) -> str:
    """Return an address as it stands before a colon."""
    address = address or "0.0.0.0"
    return f"[{address}]" if ":" in address else address


@sampan_command("inspect", examples="sampan container inspect NAME")
@click.argument("names", shell_complete=completing.containers, nargs=-1, required=True)
@inspect_format_option
@click.option("--size", "-s", is_flag=True, help="Display total file sizes.")
@click.pass_obj
def inspect(session: Session, /, names: tuple[str, ...], template: str, size: bool) -> None:
    """Display detailed information on one or more containers."""

    async def work(engine: "ObjectsBackend") -> int:
        from sampan_cli.output import inspecting

        return await inspecting.inspect(names, finder(engine, ("container",), size=size), template)

    session.run(work)


@sampan_command("port", examples="sampan port web\nsampan port web 80/tcp")
@click.argument("container", shell_complete=completing.containers)
@click.argument("private_port", default="")
@click.pass_obj
def port(session: Session, /, container: str, private_port: str) -> None:
    """List port mappings or a specific mapping for the container."""
    session.run(lambda engine: show_ports(engine, container, private_port))


async def show_ports(engine: "ContainerBackend", container: str, private_port: str) -> None:
    """Print all mappings, or the host's side of one.

    Raises:
        NotFoundError: in Docker's words, that port is not published.
    """
    from sampan.docker.views.container_view import live_network
    from sampan.errors import NotFoundError

    found = await engine.containers.get(container)
    published = [
        (f"{port.container_port}/{port.protocol}", f"{host_address(port.host_ip)}:{port.host_port}")
        for port in live_network(found).ports
        if port.host_port
    ]
    if not private_port:
        for inside, outside in sorted(published):
            click.echo(f"{inside} -> {outside}")
        return
    wanted = private_port if "/" in private_port else f"{private_port}/tcp"
    matching = [outside for inside, outside in published if inside == wanted]
    if not matching:
        raise NotFoundError(f"no public port '{wanted}' published for {container}")
    for outside in matching:
        click.echo(outside)


@sampan_command(
    "top",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    examples="sampan top\nsampan top web\nsampan top web -o pid,comm,rss",
)
@click.argument("container", required=False, shell_complete=completing.containers)
@click.argument("ps_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(session: Session, /, container: str | None, ps_options: tuple[str, ...]) -> None:
    """Display the running processes of a container; what follows its name is for ps(1).

    Without a container, all of them and the engine's services are shown full-screen, anew each second.
    """
    if container is None:
        from rich.console import Console

        from sampan_cli.commands.system.live import watch

        console = Console()
        return session.run(lambda engine: watch(engine, None if session.elsewhere else session.layout, console))
    return session.run(lambda engine: show_processes(engine, container, " ".join(ps_options)))


async def show_processes(engine: "ContainerBackend", container: str, ps_args: str) -> None:
    """Print a table of processes."""
    from sampan_cli.output.table import table

    found = await engine.containers.top(container, ps_args)
    for line in table([found.titles, *found.rows]):
        click.echo(line.rstrip())


@sampan_command("diff", examples="sampan diff web")
@click.argument("container", shell_complete=completing.containers)
@click.pass_obj
def diff(session: Session, /, container: str) -> None:
    """Inspect changes to files or directories on a container's filesystem: A added, C changed, D deleted."""
    session.run(lambda engine: show_changes(engine, container))


async def show_changes(engine: "ContainerBackend", container: str) -> None:
    """Print one line per changed path."""
    from sampan.resource.container import ChangeKind

    letters = {ChangeKind.ADDED: "A", ChangeKind.MODIFIED: "C", ChangeKind.DELETED: "D"}
    for change in await engine.container_changes(container):
        click.echo(f"{letters[change.kind]} {change.path}")
