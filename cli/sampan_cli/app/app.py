"""The command tree's root."""

import click

from sampan.version import VERSION
from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.table import ROOT


@click.group(
    cls=LazyGroup,
    entries=ROOT,
    show_roots=True,
    # No -h: it is the host's name in `run` and `create`, and options are inherited downwards.
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
)
@click.version_option(VERSION, "--version", "-v", message="Sampan version %(version)s")
def app() -> None:
    """A container engine made of small services: run containers, manage images, networks and volumes."""
