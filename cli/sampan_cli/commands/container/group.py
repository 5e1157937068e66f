"""The group ``sampan container``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import CONTAINER


@click.group("container", cls=LazyGroup, entries=CONTAINER)
def command() -> None:
    """Manage containers."""
