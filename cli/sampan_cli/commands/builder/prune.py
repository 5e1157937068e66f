"""``sampan builder prune``: remove build cache."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import confirm, force_prune_option, prune_filter_option
from sampan_cli.output.pruning import print_total

if TYPE_CHECKING:
    from sampan.build.request import PruneOptions
    from sampan.engine.engine import Engine


@sampan_command("prune", examples="sampan builder prune -f\nsampan builder prune -a --filter until=24h")
@click.option("--all", "-a", is_flag=True, help="Remove all unused build cache, not just dangling ones.")
@prune_filter_option
@force_prune_option
@click.option("--keep-storage", default="", metavar="BYTES", help="Amount of disk space to keep for cache.")
@click.pass_obj
def command(session: Session, /, all: bool, filters: tuple[str, ...], force: bool, keep_storage: str) -> None:
    """Remove build cache that nothing uses, least recently used first."""
    from sampan.build.filters import CACHE_FILTERS, prune_options
    from sampan.docker.filters import parse_filters
    from sampan.docker.sizes import parse_size

    parsed = parse_filters(filters, CACHE_FILTERS)
    options = prune_options(parsed, all=all, reserved_bytes=parse_size(keep_storage) if keep_storage else 0)
    what = "all build cache" if all else "all dangling build cache"
    confirm(f"This will remove {what}.", force=force)
    session.run(lambda engine: print_total(remove(engine, options)))


async def remove(engine: "Engine", options: "PruneOptions") -> int:
    """Remove what matches and say what was removed; return how many bytes that was."""
    gone = await engine.prune_build_cache(options)
    if gone.records:
        click.echo("Deleted build cache objects:")
        click.echo("".join(f"{name}\n" for name in gone.records))
    return gone.reclaimed_bytes
