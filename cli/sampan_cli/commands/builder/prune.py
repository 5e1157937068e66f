"""``sampan builder prune``: remove build cache."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan.build.filters import PruneLimits
    from sampan.docker.filters import Filters
    from sampan_cli.backend import BuilderBackend


@sampan_command("prune", examples="sampan builder prune -f\nsampan builder prune -a --filter until=24h")
@click.option("--all", "-a", is_flag=True, help="Remove all unused build cache, not just dangling ones.")
@prune_filter_option
@force_prune_option
@click.option(
    "--keep-storage",
    "--reserved-space",
    "reserved_space",
    default="",
    metavar="BYTES",
    help="Amount of disk space to keep for cache.",
)
@click.option("--max-used-space", default="", metavar="BYTES", help="Most disk space that cache may take.")
@click.option("--min-free-space", default="", metavar="BYTES", help="Disk space to have free afterwards.")
@click.pass_obj
def command(
    session: Session,
    /,
    all: bool,
    filters: tuple[str, ...],
    force: bool,
    reserved_space: str,
    max_used_space: str,
    min_free_space: str,
) -> None:
    """Remove build cache that nothing uses, least recently used first, and without filters what broken pulls left."""
    what = "all build cache" if all else "all dangling build cache"
    what += "" if filters else ", and what broken pulls have left"
    confirm(f"This will remove {what}.", force=force)

    async def work(engine: "BuilderBackend") -> int:
        from sampan.build.filters import CACHE_FILTERS, PruneLimits
        from sampan.docker.filters import parse_filters
        from sampan.docker.sizes import parse_size

        chosen = parse_filters(filters, CACHE_FILTERS)
        limits = PruneLimits(
            all=all,
            reserved_bytes=parse_size(reserved_space or "0"),
            max_used_bytes=parse_size(max_used_space or "0"),
            min_free_bytes=parse_size(min_free_space or "0"),
        )
        return await remove(engine, chosen, limits)

    session.run(lambda engine: print_total(work(engine)))


async def remove(engine: "BuilderBackend", filters: "Filters", limits: "PruneLimits", *, dates: bool = False) -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    gone = await engine.prune_build_cache(filters, limits, dates=dates)
    if gone.records:
        click.echo("Deleted build cache objects:")
        click.echo("".join(f"{name}\n" for name in gone.records))
    return gone.reclaimed_bytes
