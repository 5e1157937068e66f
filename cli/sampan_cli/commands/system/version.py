"""``sampan version``: of the command and of the engine."""

import platform
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import click

from sampan.json_types import JsonObject
from sampan.oci.platform import host_platform
from sampan.version import VERSION
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan_cli.backend import FactsBackend


@sampan_command("version", examples="sampan version\nsampan version --format '{{.Server.Version}}'")
@inspect_format_option
@click.pass_obj
def command(session: Session, /, template: str) -> None:
    """Show the versions of the command, the engine and what runs containers."""
    session.run(lambda engine: show_version(engine, template))


async def show_version(engine: "FactsBackend", template: str) -> None:
    """Print both; what is known without an engine comes before what is not."""
    client = {
        "Version": VERSION,
        "Python": platform.python_version(),
        "Os": "linux",
        "Arch": host_platform().architecture,
    }
    if not template:
        rows = {"Version": VERSION, "Python version": client["Python"], "OS/Arch": f"linux/{client['Arch']}"}
        _print("Client:", rows, 1)
    server = await _server(engine)
    if not template:
        _print_server(server)
        return
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    both = {"Client": client, "Server": server}
    click.echo(to_json(both) if template == "json" else Template(template).render(both))


async def _server(engine: "FactsBackend") -> JsonObject:
    """Return Docker's fields, and the version of each program that runs containers by its name."""
    from sampan.docker.views.version_view import version_json
    from sampan_cli.template.functions import ABSENT_MAP, Nil

    host = await engine.host.info()
    shown = version_json(host)
    first, *others = shown["Components"]
    first["Details"]["BuildTime"] = _ansi_c(shown["BuildTime"])
    for part in others:
        part["Details"] = part["Details"] or ABSENT_MAP
    programs = {one.name: one.version for one in host.runtimes if one.usable}
    # Templates know the field by its name in Go, JSON by another.
    spelled = {"APIVersion": Nil(shown["ApiVersion"], omitted=True)}
    return shown | spelled | {"conmon": host.conmon_version} | programs


def _ansi_c(moment: str) -> str:
    """Return an RFC 3339 time in the form of C's ``asctime``, in which Docker shows it."""
    return datetime.fromisoformat(moment).strftime("%a %b %e %H:%M:%S %Y")


def _print_server(server: JsonObject) -> None:
    _print(
        f"\nServer: {server['Platform']['Name']}\n Engine:",
        {
            "Version": server["Version"],
            "API version": f"{server['ApiVersion']} (minimum version {server['MinAPIVersion']})",
            "Go version": server["GoVersion"],
            "Git commit": server["GitCommit"],
            "Built": _ansi_c(server["BuildTime"]),
            "OS/Arch": f"{server['Os']}/{server['Arch']}",
            "Kernel version": server["KernelVersion"],
        },
        2,
    )
    for part in server["Components"][1:]:
        _print(f" {part['Name']}:", {"Version": part["Version"]}, 2)


def _print(title: str, facts: Mapping[str, str], indent: int) -> None:
    click.echo(title)
    for key, value in facts.items():
        click.echo(f"{' ' * indent}{f'{key}:':<{19 - indent + 1}}{value}")
