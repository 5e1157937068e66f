"""The group ``sampan registry``."""

import click

from sampan_cli.commands.table import REGISTRY
from sampan_cli.lazy import LazyGroup


@click.group("registry", cls=LazyGroup, entries=REGISTRY)
def command() -> None:
    """Serve the engine's images to others."""
