"""The group ``sampan volume``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import VOLUME


@click.group("volume", cls=LazyGroup, entries=VOLUME)
def command() -> None:
    """Manage volumes."""
