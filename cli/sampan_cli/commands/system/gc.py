"""``sampan system gc``: a pass of garbage collection."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import DiskBackend


@sampan_command("gc", examples="sampan system gc\nsampan system gc --leftovers")
@click.option("--leftovers", is_flag=True, help="Also remove what broken pulls keep for the next try.")
@click.pass_obj
def command(session: Session, /, leftovers: bool) -> None:
    """Remove content and layers that nothing needs. The engine does so by itself every ten minutes."""
    session.run(lambda engine: collect(engine, leftovers=leftovers))


async def collect(engine: "DiskBackend", *, leftovers: bool) -> None:
    """Run a pass and say what it came to."""
    from sampan.docker.sizes import human_size

    collected = await engine.collect_garbage(leftovers=leftovers)
    for kind, freed in sorted(collected.freed.items()):
        click.echo(f"{kind}: {freed.count} removed, {human_size(freed.size_bytes)}")
    click.echo(f"Total reclaimed space: {human_size(collected.reclaimed_bytes)}")
