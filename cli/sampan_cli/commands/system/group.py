"""The group ``sampan system``."""

import click

from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import SYSTEM


@click.group("system", cls=LazyGroup, entries=SYSTEM)
def command() -> None:
    """Manage the engine."""
