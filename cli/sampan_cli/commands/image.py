"""The group ``sampan image``."""

import click

from sampan_cli.commands.table import IMAGE
from sampan_cli.lazy import LazyGroup


@click.group("image", cls=LazyGroup, entries=IMAGE)
def command() -> None:
    """Manage images."""
