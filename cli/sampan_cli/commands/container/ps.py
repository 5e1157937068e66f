"""``sampan ps``: list containers."""

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import filter_option, format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.resource.container import ContainerDetails
    from sampan.resource.container_spec import ContainerSpec
    from sampan_cli.backend import ContainerBackend

FILTERS: Final = (
    *("id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume", "network", "publish"),
    *("expose", "health"),
)

_HEADERS: Final = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
}
_TABLE: Final = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_SHORT_ID: Final = 12
_COMMAND_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class PsOptions:
    """The command line of ``sampan ps``."""

    all: bool
    filters: tuple[str, ...]
    last: int
    latest: bool
    no_trunc: bool
    pods: bool
    quiet: bool
    size: bool
    template: str


@sampan_command(
    "ps",
    examples="""
    sampan ps -a
    sampan ps --filter label=tier=web --format '{{.Names}} {{.Status}}'
    sampan ps --format json
    """,
)
@click.option("--all", "-a", is_flag=True, help="Show all containers, not only running ones.")
@filter_option
@format_option
@click.option("--last", "-n", type=int, default=-1, help="Show the n last created containers.")
@click.option("--latest", "-l", is_flag=True, help="Show the latest created container.")
@no_trunc_option
@click.option("--pods", is_flag=True, help="Show pods' containers, too.")
@click.option("--quiet", "-q", is_flag=True, help="Only display container IDs.")
@click.option("--size", "-s", is_flag=True, help="Display total file sizes.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """List containers."""
    options = from_flags(PsOptions, flags)
    session.run(lambda engine: list_containers(engine, options, time.time()))


async def list_containers(engine: "ContainerBackend", options: PsOptions, now_s: float) -> None:
    """Print the containers that match, newest first."""
    from contextlib import aclosing

    from sampan.docker.filters import parse_filters
    from sampan.resource.listing import EVERYONE, Selection
    from sampan_cli.output.table import print_list

    filters = parse_filters(options.filters, FILTERS)
    limit = 1 if options.latest else max(options.last, 0)
    sized = options.size or asks_for_size(options.template)
    selection = Selection(options.all, limit, options.latest, EVERYONE if options.pods else "")
    async with aclosing(engine.select_containers(selection, filters, size=sized)) as pages:
        listed = [container async for page in pages for container in page]
    if options.quiet and not options.template:
        for container in listed:
            click.echo(container.id if options.no_trunc else container.id[:_SHORT_ID])
        return
    seen = await _sizes_of_roots(engine, listed) if sized else {}
    rows = [
        container_row(container, now_s, trunc=not options.no_trunc, root_bytes=seen.get(container.id, 0))
        for container in listed
    ]
    table = f"{_TABLE}\t{{{{.Size}}}}" if options.size else _TABLE
    print_list(rows, options.template, _HEADERS, table, click.echo)


def asks_for_size(template: str) -> bool:
    """Say whether a template shows sizes, which take a walk through what each container has written."""
    return template == "json" or ".Size" in template or re.search(r"\bjson\s+\.\s*-?\}\}", template) is not None


async def _sizes_of_roots(engine: "ContainerBackend", containers: "Iterable[ContainerDetails]") -> dict[str, int]:
    """Return how much each container's file system takes, its image with it, by the container's ID."""
    from sampan.engine.df import sizes

    stored = await sizes(engine.layers)
    return {container.id: stored.root_bytes(container) for container in containers}


def container_row(
    container: "ContainerDetails", now_s: float, *, trunc: bool, root_bytes: int = 0
) -> dict[str, object]:
    """Return all fields that a line about a container can show; ``root_bytes`` is ``SizeRootFs``, if known."""
    from sampan.docker.durations import ago
    from sampan.docker.sizes import human_size
    from sampan.docker.times import local_time
    from sampan.docker.views.container_view import live_network, points, quoted, status_text
    from sampan.dockerfile.words import quoted as go_quoted
    from sampan_cli.commands.container.inspect import shown_ports

    network = live_network(container)
    spec = container.spec
    command = " ".join(quoted(word) for word in (*spec.process.entrypoint, *spec.process.cmd))
    sources = [point.name or point.source for point in points(container)]
    written = human_size(container.size_rw_bytes or 0, 3)
    created_s = int(container.created.timestamp())
    return {
        "ID": container.id[:_SHORT_ID] if trunc else container.id,
        "Names": spec.name if trunc else ",".join(sorted([spec.name, *(name[1:] for name in container.link_names)])),
        "Image": _shown_image(spec.image) if trunc else spec.image,
        "Command": go_quoted(_ellipsis(command, _COMMAND_WIDTH) if trunc else command),
        "CreatedAt": local_time(created_s),
        "RunningFor": ago(created_s, now_s),
        "Ports": shown_ports(network.ports),
        "State": container.state.status.value,
        "Status": status_text(container.state, now_s),
        "Size": written + (f" (virtual {human_size(root_bytes, 3)})" if root_bytes else ""),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(spec.labels.items())),
        "Label": lambda key: spec.labels.get(key, ""),
        "Mounts": ",".join(_ellipsis(source, 15) if trunc else source for source in sources),
        "LocalVolumes": str(sum(point.driver == "local" for point in container.mounts)),
        "Networks": ",".join(endpoint.network for endpoint in container.network.endpoints) or _own_network(spec),
    }


def _own_network(spec: "ContainerSpec") -> str:
    """Return ``host`` or ``none``; who is in another container's network shows none, as with Docker."""
    mode = spec.namespaces.network
    return "" if mode.startswith("container:") else mode


def _ellipsis(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _shown_image(image: str) -> str:
    digits = image.removeprefix("sha256:")
    return digits[:_SHORT_ID] if len(digits) == 64 and ":" not in digits else image
