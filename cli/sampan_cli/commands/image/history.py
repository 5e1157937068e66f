"""``sampan history``: how an image was made."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan.json_types import JsonObject
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import format_option, from_flags, no_trunc_option

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend

_HEADERS: Final = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_TABLE: Final = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
_COMMAND_WIDTH: Final = 45


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """The command line of ``sampan history``."""

    image: str
    template: str
    human: bool
    no_trunc: bool
    platform: str
    quiet: bool


@sampan_command("history", examples="sampan history debian:12\nsampan history --no-trunc --format json debian:12")
@click.argument("image", shell_complete=completing.images)
@format_option
@click.option("--human/--no-human", "-H", default=True, help="Print sizes and dates in human readable format.")
@no_trunc_option
@click.option("--platform", default="", help="Of an index, the image for this platform, such as linux/arm64.")
@click.option("--quiet", "-q", is_flag=True, help="Only show image IDs.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Show the history of an image, newest step first."""
    options = from_flags(HistoryOptions, flags)
    session.run(lambda engine: show_history(engine, options, time.time()))


async def show_history(engine: "ImageBackend", options: HistoryOptions, now_s: float) -> None:
    """Print one line per step."""
    from sampan.docker.views.image_view import history_json
    from sampan.engine.df import sizes as image_sizes
    from sampan.engine.image_filters import ancestors, of_platform
    from sampan_cli.output.table import print_list

    if options.platform:
        image = await of_platform(engine.images, options.image, options.platform)
    else:
        image = await engine.images.get(options.image)
    parts, parents = (await image_sizes(engine.layers)).parts(image), await ancestors(engine.images, image)
    rows = list(_rows(history_json(image, parts, parents), options, now_s))
    if options.quiet and not options.template:
        for row in rows:
            click.echo(row["ID"])
        return
    headers = _HEADERS if options.human else _HEADERS | {"CreatedSince": _HEADERS["CreatedAt"]}
    print_list(rows, options.template, headers, _TABLE, click.echo)


def _rows(steps: Iterable[JsonObject], options: HistoryOptions, now_s: float) -> Iterator[JsonObject]:
    from sampan.docker.durations import ago
    from sampan.docker.sizes import human_size
    from sampan.docker.times import rfc3339_ns

    for step in steps:
        created_by = step["CreatedBy"].replace("\t", " ")
        if not options.no_trunc and len(created_by) > _COMMAND_WIDTH:
            created_by = f"{created_by[: _COMMAND_WIDTH - 1]}…"
        created_at = rfc3339_ns(step["Created"] * 10**9)
        yield {
            "ID": step["Id"] if options.no_trunc else step["Id"].rpartition(":")[2][:12],
            "CreatedSince": ago(step["Created"], now_s) if options.human else created_at,
            "CreatedAt": created_at,
            "CreatedBy": created_by,
            "Size": human_size(step["Size"], 3) if options.human else str(step["Size"]),
            "Comment": step["Comment"],
        }
