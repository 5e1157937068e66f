"""The command tree's root."""

import os

import click

from sampan.version import VERSION
from sampan_cli.app.engines import choose
from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.session import Session
from sampan_cli.app.table import ROOT


@click.group(
    cls=LazyGroup,
    entries=ROOT,
    show_roots=True,
    # No -h: it is the host's name in `run` and `create`, and options are inherited downwards.
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
)
@click.version_option(VERSION, "--version", "-v", message="Sampan version %(version)s")
@click.option("--config", default="", metavar="DIRECTORY", help="Client config files. [env: DOCKER_CONFIG]")
@click.option("--context", "-c", default="", help="The context of the engine to talk to. [env: DOCKER_CONTEXT]")
@click.option("--host", "-H", default="", help="The engine's socket: unix:///run/sampan/docker.sock.")
@click.pass_context
def app(click_context: click.Context, /, config: str, context: str, host: str) -> None:
    """A container engine made of small services: run containers, manage images, networks and volumes."""
    if config:
        os.environ["DOCKER_CONFIG"] = config
    if isinstance(click_context.obj, Session):
        managing = click_context.invoked_subcommand in ("context", "completion")
        choose(click_context.obj, host=host, context=context, managing=managing)
