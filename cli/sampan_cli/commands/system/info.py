"""``sampan info``: what the engine has and what the host can do."""

from typing import TYPE_CHECKING

import click

from sampan.json_types import JsonObject
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan.docker.views.info_view import EngineFacts
    from sampan_cli.backend import FactsBackend


@sampan_command("info", examples="sampan info\nsampan info --format '{{.Driver}}'")
@inspect_format_option
@click.pass_obj
def command(session: Session, /, template: str) -> None:
    """Display system-wide information: counts, drivers, runtimes, and why those not in use are not."""
    session.run(lambda engine: show_info(engine, template))


async def show_info(engine: "FactsBackend", template: str) -> None:
    """Print the facts."""
    from sampan_cli.shape.go import shape_info
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    facts = await engine.facts()
    shown = shape_info(facts, engine.layout)
    if template:
        click.echo(to_json(shown) if template == "json" else Template(template).render(shown))
        return
    for line in _lines(shown, facts):
        click.echo(line)
    for warning in facts.warnings:
        click.echo(warning, err=True)


def _lines(shown: JsonObject, facts: "EngineFacts") -> list[str]:
    from sampan.docker.sizes import binary_size
    from sampan.docker.views.info_view import verdict

    lines = [
        f"Containers: {shown['Containers']}",
        f" Running: {shown['ContainersRunning']}",
        f" Paused: {shown['ContainersPaused']}",
        f" Stopped: {shown['ContainersStopped']}",
        f"Images: {shown['Images']}",
        f"Server Version: {shown['ServerVersion']}",
        f"Storage Driver: {shown['Driver']}",
        f" Backing Filesystem: {shown['BackingFilesystem']}",
    ]
    lines += [f" {driver.name}: {verdict(driver)}" for driver in facts.drivers.drivers]
    lines += [
        f"Logging Driver: {shown['LoggingDriver']}",
        f"Cgroup Driver: {shown['CgroupDriver']}",
        f"Cgroup Version: {shown['CgroupVersion']} ({shown['CgroupLayout']})",
        *(f"{kind} Drivers: {' '.join(names)}" for kind, names in shown["Plugins"].items() if names),
        *(f"CDI Spec Directory: {directory}" for directory in facts.host.cdi_spec_dirs),
        *(f"Discovered Device: {name}" for name in facts.host.cdi_devices),
        "Runtimes:",
    ]
    lines += [
        f" {runtime.name}: {runtime.version or runtime.path}"
        if runtime.usable
        else f" {runtime.name}: {runtime.reason}"
        for runtime in facts.host.runtimes
    ]
    lines += [
        f"Default Runtime: {shown['DefaultRuntime']}",
        f"conmon: {shown['ConmonVersion']}",
        *([f"Init Binary: {shown['InitBinary']}"] if shown["InitBinary"] else []),
        "Security Options:",
        *(f" {option.removeprefix('name=').replace(',', ' ')}" for option in shown["SecurityOptions"]),
        f"Kernel Version: {shown['KernelVersion']}",
        f"Operating System: {shown['OperatingSystem']}",
        f"Architecture: {shown['Architecture']}",
        f"CPUs: {shown['NCPU']}",
        f"Total Memory: {binary_size(shown['MemTotal'])}",
        f"Name: {shown['Name']}",
        *(f"Label: {label}" for label in shown["Labels"]),
        *(f"Default Address Pool: {pool}" for pool in facts.host.default_address_pools),
        f"Data Root: {shown['DataRoot']}",
        f"Run Root: {shown['RunRoot']}",
        f"Docker API: {shown['DockerSocket']}",
    ]
    return lines
