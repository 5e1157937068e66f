"""The group ``sampan volume``."""

import click

from sampan_cli.commands.table import VOLUME
from sampan_cli.lazy import LazyGroup


@click.group("volume", cls=LazyGroup, entries=VOLUME)
def command() -> None:
    """Manage volumes."""
