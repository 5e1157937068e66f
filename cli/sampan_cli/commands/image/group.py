"""The group ``sampan image``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import IMAGE


@click.group("image", cls=LazyGroup, entries=IMAGE)
def command() -> None:
    """Manage images."""
