"""``sampan create``: create a container without starting it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.errors import SampanError
from sampan_cli.app.lazy import USAGE_ERROR, sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.container import ContainerOptions, container_options
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@sampan_command(
    "create",
    context_settings={"allow_interspersed_args": False},
    examples="""
    sampan create --name job busybox echo hello
    sampan start -a job
    """,
)
@container_options
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Create a new container without starting it, and print its ID."""
    options = from_flags(ContainerOptions, flags)

    async def work(engine: "ContainerBackend") -> None:
        from sampan_cli.commands.container.creation import create
        from sampan_cli.options.spec import build_spec

        try:
            spec = build_spec(options, os.environ, Path.cwd())
        except SampanError as error:  # what flags say, which is no failure of the engine's
            raise CommandError(str(error), USAGE_ERROR) from error
        click.echo(await create(engine, options, spec))

    session.run(work)
