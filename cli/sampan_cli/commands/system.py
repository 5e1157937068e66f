"""The group ``sampan system``."""

import click

from sampan_cli.commands.table import SYSTEM
from sampan_cli.lazy import LazyGroup


@click.group("system", cls=LazyGroup, entries=SYSTEM)
def command() -> None:
    """Manage the engine."""
