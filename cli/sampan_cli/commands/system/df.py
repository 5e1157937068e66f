"""``sampan system df``: disk use."""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan_cli.app.lazy import USAGE_ERROR, sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.flags import format_option, from_flags

if TYPE_CHECKING:
    from sampan.engine.df import Total
    from sampan_cli.backend import DiskBackend

_HEADERS: Final = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_TABLE: Final = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"


@dataclass(frozen=True, slots=True)
class DfOptions:
    """The command line of ``sampan system df``."""

    template: str
    verbose: bool
    explain: bool


@sampan_command(
    "df",
    examples="""
    sampan system df
    sampan system df -v
    sampan system df --explain
    sampan system df --explain --format json
    """,
)
@format_option
@click.option("--verbose", "-v", is_flag=True, help="Show each image, container and volume.")
@click.option("--explain", is_flag=True, help="Show all that is stored, and who holds each of it.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Show disk usage of images, containers, volumes and build cache. A layer that several images share counts once.

    Layers are counted as they are unpacked, image content as it came from registries.
    """
    options = from_flags(DfOptions, flags)
    if options.verbose and options.explain:
        raise CommandError("--verbose and --explain cannot be used together", USAGE_ERROR)
    session.run(lambda engine: show_usage(engine, options, time.time()))


async def show_usage(engine: "DiskBackend", options: DfOptions, now_s: float) -> None:
    """Print one line per kind of object, or what is asked for instead."""
    from sampan.engine.df import content_total
    from sampan_cli.output import disk_tables
    from sampan_cli.output.table import print_list

    if options.explain:
        disk_tables.print_explanation(await engine.explain_disk(), options.template, click.echo)
        return
    used, cache = await asyncio.gather(engine.disk_use(), engine.cache_use())
    if cache.missing:
        click.echo(f"WARNING: {cache.missing}", err=True)
    if options.verbose:
        disk_tables.print_details(used, cache, options.template, now_s, click.echo)
        return
    rows = [
        _row("Images", used.images_total()),
        _row("Containers", used.containers_total()),
        _row("Local Volumes", used.volumes_total()),
        _row("Build Cache", cache.total(), share=False),
        _row("Image Content", content_total(await engine.stored_content())),
    ]
    print_list(rows, options.template, _HEADERS, _TABLE, click.echo)


def _row(kind: str, total: "Total", *, share: bool = True) -> dict[str, object]:
    """``share``: say how much of the size can be reclaimed, which Docker does not of its build cache."""
    from sampan.docker.sizes import human_size

    size, idle = total.size_bytes, total.reclaimable_bytes
    part = f" ({100 * idle // size}%)" if size and share else ""
    return {
        "Type": kind,
        "TotalCount": str(total.count),
        "Active": str(total.active),
        "Size": human_size(size),
        "Reclaimable": f"{human_size(idle)}{part}",
    }
