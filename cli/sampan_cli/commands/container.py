"""The group ``sampan container``."""

import click

from sampan_cli.commands.table import CONTAINER
from sampan_cli.lazy import LazyGroup


@click.group("container", cls=LazyGroup, entries=CONTAINER)
def command() -> None:
    """Manage containers."""
