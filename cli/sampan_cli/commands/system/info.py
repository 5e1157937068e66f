"""``sampan info``: what the engine has and what the host can do."""

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sampan import services
from sampan.json_types import JsonObject
from sampan.version import VERSION
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import inspect_format_option

if TYPE_CHECKING:
    from sampan.engine.engine import Engine
    from sampan.resource.snapshot import DriversReport
    from sampan.resource.stats import HostInfo


@sampan_command("info", examples="sampan info\nsampan info --format '{{.Driver}}'")
@inspect_format_option
@click.pass_obj
def command(session: Session, /, template: str) -> None:
    """Display system-wide information: counts, drivers, runtimes, and why those not in use are not."""
    session.run(lambda engine: show_info(engine, template))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the services say about themselves."""

    host: "HostInfo"
    drivers: "DriversReport"
    images: int
    set_aside: tuple[str, ...]  # what services could not recover when they started
    problems: list[str]


async def show_info(engine: "Engine", template: str) -> None:
    """Print the facts."""
    from sampan.service.set_aside import read_set_aside
    from sampan_cli.template.functions import to_json
    from sampan_cli.template.template import Template

    facts = Facts(
        host=await engine.runtime.host.info(),
        drivers=await engine.layers.drivers(),
        images=len(await engine.images.list(brief=True)),
        set_aside=tuple(map(str, read_set_aside(engine.layout, services.ALL))),
        problems=[problem for name in services.ALL for problem in engine.layout.problems(name)],
    )
    shaped = _shape(engine, facts)
    if template:
        click.echo(to_json(shaped) if template == "json" else Template(template).render(shaped))
        return
    for line in _lines(shaped, facts):
        click.echo(line)
    for warning in shaped["Warnings"]:
        click.echo(warning, err=True)


def _shape(engine: "Engine", facts: Facts) -> JsonObject:
    host = facts.host
    running, paused, stopped = host.containers_running, host.containers_paused, host.containers_stopped
    return {
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": facts.images,
        "ServerVersion": VERSION,
        "Driver": facts.drivers.driver,
        "BackingFilesystem": facts.drivers.backing_filesystem,
        "LoggingDriver": next(iter(host.log_drivers), ""),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(host.cgroup_version),
        "CgroupLayout": host.cgroup_layout,
        "Plugins": {
            "Volume": list(host.volume_drivers),
            "Network": list(host.network_drivers),
            "Log": list(host.log_drivers),
        },
        "Runtimes": {
            runtime.name: {"path": runtime.path, "version": runtime.version}
            for runtime in host.runtimes
            if runtime.usable
        },
        "DefaultRuntime": host.default_runtime,
        "ConmonVersion": host.conmon_version,
        "SecurityOptions": list(host.security_options),
        "KernelVersion": platform.release(),
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 0,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": platform.node(),
        "DockerRootDir": str(engine.layout.data_root),  # Docker's name for it
        "DataRoot": str(engine.layout.data_root),
        "RunRoot": str(engine.layout.run_root),
        "DockerSocket": f"unix://{engine.layout.docker_socket}",
        "Warnings": [*host.warnings, *facts.set_aside, *(f"WARNING: {problem}" for problem in facts.problems)],
    }


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def _lines(shaped: JsonObject, facts: Facts) -> list[str]:
    from sampan.docker.sizes import binary_size

    lines = [
        f"Containers: {shaped['Containers']}",
        f" Running: {shaped['ContainersRunning']}",
        f" Paused: {shaped['ContainersPaused']}",
        f" Stopped: {shaped['ContainersStopped']}",
        f"Images: {shaped['Images']}",
        f"Server Version: {shaped['ServerVersion']}",
        f"Storage Driver: {shaped['Driver']}",
        f" Backing Filesystem: {shaped['BackingFilesystem']}",
    ]
    lines += [
        f" {driver.name}: {'usable' if driver.usable else 'not usable'}{f': {driver.reason}' if driver.reason else ''}"
        for driver in facts.drivers.drivers
    ]
    lines += [
        f"Logging Driver: {shaped['LoggingDriver']}",
        f"Cgroup Version: {shaped['CgroupVersion']} ({shaped['CgroupLayout']})",
        *(f"{kind} Drivers: {' '.join(names)}" for kind, names in shaped["Plugins"].items()),
        "Runtimes:",
    ]
    lines += [
        f" {runtime.name}: {runtime.version or runtime.path}"
        if runtime.usable
        else f" {runtime.name}: {runtime.reason}"
        for runtime in facts.host.runtimes
    ]
    lines += [
        f"Default Runtime: {shaped['DefaultRuntime']}",
        f"conmon: {shaped['ConmonVersion']}",
        "Security Options:",
        *(f" {option.removeprefix('name=').replace(',', ' ')}" for option in shaped["SecurityOptions"]),
        f"Kernel Version: {shaped['KernelVersion']}",
        f"Operating System: {shaped['OperatingSystem']}",
        f"Architecture: {shaped['Architecture']}",
        f"CPUs: {shaped['NCPU']}",
        f"Total Memory: {binary_size(shaped['MemTotal'])}",
        f"Name: {shaped['Name']}",
        f"Data Root: {shaped['DataRoot']}",
        f"Run Root: {shaped['RunRoot']}",
        f"Docker API: {shaped['DockerSocket']}",
    ]
    return lines
