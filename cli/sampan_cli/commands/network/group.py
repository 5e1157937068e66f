"""The group ``sampan network``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import NETWORK


@click.group("network", cls=LazyGroup, entries=NETWORK)
def command() -> None:
    """Manage networks."""
