"""``sampan network rm``: remove networks."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import NetworkBackend


@sampan_command("rm", examples="sampan network rm backend")
@click.argument("networks", nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Do not fail if a network does not exist.")
@click.pass_obj
def command(session: Session, /, networks: tuple[str, ...], force: bool) -> None:
    """Remove one or more networks."""

    async def work(engine: "NetworkBackend") -> int:
        from sampan.errors import NotFoundError
        from sampan_cli.app.several import for_each

        return await for_each(
            networks,
            engine.networks.remove,
            ignore=(NotFoundError,) if force else (),
        )

    session.run(work)
