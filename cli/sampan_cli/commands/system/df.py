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
    from collections.abc import Sequence

    from sampan.build.request import UsageRecord
    from sampan.disk import StoredObject
    from sampan.engine.df import DiskUse
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
    from sampan_cli.output import disk_tables
    from sampan_cli.output.table import print_list

    if options.explain:
        disk_tables.print_explanation(await engine.explain_disk(), options.template, click.echo)
        return
    used, cache = await asyncio.gather(engine.disk_use(), engine.cache_use())
    if cache.missing:
        click.echo(f"WARNING: {cache.missing}", err=True)
    if options.verbose:
        disk_tables.print_details(used, cache.records, options.template, now_s, click.echo)
        return
    rows = [*_rows(used), _build_cache(cache.records), _content(await engine.stored_content())]
    print_list(rows, options.template, _HEADERS, _TABLE, click.echo)


def _rows(used: "DiskUse") -> list[dict[str, object]]:
    from sampan.resource.container import Status

    alive = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)
    running = [one for one in used.containers if one.container.state.status in alive]
    written = sum(one.size_rw_bytes for one in used.containers)
    return [
        _row(
            "Images",
            (len(used.images), sum(one.containers > 0 for one in used.images)),
            used.layers_bytes,
            used.layers_bytes - used.needed_bytes,
        ),
        _row(
            "Containers",
            (len(used.containers), len(running)),
            written,
            written - sum(one.size_rw_bytes for one in running),
        ),
        _row(
            "Local Volumes",
            (len(used.volumes), sum(bool(volume.used_by) for volume in used.volumes)),
            sum(volume.size_bytes or 0 for volume in used.volumes),
            sum(volume.size_bytes or 0 for volume in used.volumes if not volume.used_by),
        ),
    ]


def _build_cache(records: "Sequence[UsageRecord]") -> dict[str, object]:
    """Records of the build cache; what images share is theirs."""
    own = [one for one in records if not one.shared]
    return _row(
        "Build Cache",
        (len(records), sum(one.in_use for one in records)),
        sum(one.size_bytes for one in own),
        sum(one.size_bytes for one in own if not one.in_use),
        share=False,
    )


def _content(objects: "tuple[StoredObject, ...]") -> dict[str, object]:
    """Blobs, and what is on its way to become some; images, registries and labels keep theirs."""
    from sampan.disk import IMAGE, LABEL, REGISTRY, SERVICE

    counted = [one for one in objects if one.owner != SERVICE]
    kept = [one for one in counted if one.owner in (IMAGE, REGISTRY, LABEL)]
    size = sum(one.size_bytes for one in counted)
    return _row("Image Content", (len(counted), len(kept)), size, size - sum(one.size_bytes for one in kept))


def _row(
    kind: str, counts: tuple[int, int], size_bytes: int, reclaimable_bytes: int, *, share: bool = True
) -> dict[str, object]:
    """``share``: say how much of the size can be reclaimed, which Docker does not of its build cache."""
    from sampan.docker.sizes import human_size

    part = f" ({100 * reclaimable_bytes // size_bytes}%)" if size_bytes and share else ""
    return {
        "Type": kind,
        "TotalCount": str(counts[0]),
        "Active": str(counts[1]),
        "Size": human_size(size_bytes),
        "Reclaimable": f"{human_size(reclaimable_bytes)}{part}",
    }
