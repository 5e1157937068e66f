"""``sampan version``: of the command and of the engine."""

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from sampan.version import VERSION
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@sampan_command("version", examples="sampan version\nsampan version --format '{{.Server.Version}}'")
@inspect_format_option
@click.pass_obj
def command(session: Session, /, template: str) -> None:
    """Show the versions of the command, the engine and what runs containers."""
    session.run(lambda engine: show_version(engine, template))


async def show_version(engine: "Engine", template: str) -> None:
    """Print both; what is known without an engine comes before what is not."""
    client = {"Version": VERSION, "Python": platform.python_version(), "Os": "linux", "Arch": platform.machine()}
    if not template:
        _print("Client", client)
    server = await _server(engine)
    if not template:
        _print("Server", server)
        return
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    both = {"Client": client, "Server": server}
    click.echo(to_json(both) if template == "json" else Template(template).render(both))


async def _server(engine: "Engine") -> dict[str, object]:

    info = await engine.runtime.host.info()
    runtimes = {runtime.name: runtime.version for runtime in info.runtimes if runtime.usable}
    return {"Version": VERSION, "KernelVersion": platform.release(), "conmon": info.conmon_version, **runtimes}


def _print(title: str, facts: Mapping[str, object]) -> None:
    click.echo(f"{title}:")
    for key, value in facts.items():
        click.echo(f" {f'{key}:':<16}{value}")
