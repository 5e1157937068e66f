"""The group ``sampan network``."""

import click

from sampan_cli.commands.table import NETWORK
from sampan_cli.lazy import LazyGroup


@click.group("network", cls=LazyGroup, entries=NETWORK)
def command() -> None:
    """Manage networks."""
