"""``sampan volume ls``: list volumes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, format_option, from_flags

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeBackend

_HEADERS: Final = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
}
_TABLE: Final = "{{.Driver}}\t{{.Name}}"
_FILTERS: Final = ("dangling", "driver", "label", "name")


@dataclass(frozen=True, slots=True)
class VolumeLsOptions:
    """The command line of ``sampan volume ls``."""

    filters: tuple[str, ...]
    template: str
    quiet: bool


@sampan_command("ls", examples="sampan volume ls\nsampan volume ls --filter dangling=true -q")
@filter_option
@format_option
@click.option("--quiet", "-q", is_flag=True, help="Only display volume names.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """List volumes."""
    options = from_flags(VolumeLsOptions, flags)
    session.run(lambda engine: list_volumes(engine, options))


async def list_volumes(engine: "VolumeBackend", options: VolumeLsOptions) -> None:
    """Print the volumes that match."""
    from sampan.docker.filters import parse_filters
    from sampan_cli.output.table import print_list

    found = await engine.volumes.list(parse_filters(options.filters, _FILTERS))
    volumes = sorted(found, key=lambda volume: volume.name)
    if options.quiet and not options.template:
        for volume in volumes:
            click.echo(volume.name)
        return
    rows = [
        {
            "Driver": volume.driver,
            "Name": volume.name,
            "Mountpoint": volume.mountpoint,
            "Scope": "local",
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
            # What Docker counts for `system df -v` only, and what is Swarm's.
            **dict.fromkeys(("Links", "Size", "Status", "Availability", "Group"), "N/A"),
        }
        for volume in volumes
    ]
    print_list(rows, options.template, _HEADERS, _TABLE, click.echo)
