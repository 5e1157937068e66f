"""The group ``sampan registry``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import REGISTRY


@click.group("registry", cls=LazyGroup, entries=REGISTRY)
def command() -> None:
    """Serve the engine's images to others."""
