"""``sampan volume create``: make a volume."""

from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import VolumeBackend


@sampan_command(
    "create",
    examples="""
    sampan volume create data
    sampan volume create -o type=tmpfs -o device=tmpfs -o o=size=100m scratch
    """,
)
@click.argument("volume", default="")
@click.option("--driver", "-d", default="local", show_default=True, help="Volume driver name.")
@click.option("--label", multiple=True, help="Set metadata for the volume.")
@click.option("--name", default="", hidden=True, help="Volume name.")
@click.option("--opt", "-o", multiple=True, help="Driver options.")
@click.pass_obj
def command(
    session: Session, /, volume: str, driver: str, label: tuple[str, ...], name: str, opt: tuple[str, ...]
) -> None:
    """Create a volume and print its name; without one it is an anonymous volume."""

    async def work(engine: "VolumeBackend") -> None:
        from sampan.resource.volume import VolumeRequest
        from sampan_cli.options.variables import labels, pairs

        if name and volume:
            raise InvalidArgumentError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        request = VolumeRequest(volume or name, driver, pairs(opt, "driver option"), labels(label))
        click.echo((await engine.volumes.create(request)).name)

    session.run(work)
