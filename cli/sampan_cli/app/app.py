"""The command tree's root."""

import os

import click

from sampan.version import VERSION
from sampan_cli.app.engines import choose
from sampan_cli.app.lazy import LazyGroup
from sampan_cli.app.session import Session
from sampan_cli.app.table import ROOT
from sampan_cli.remote.hosts import TlsFlags


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
@click.option(
    "--host", "-H", default="", metavar="HOST",
    help="The engine: unix:///run/sampan/docker.sock, tcp://HOST:PORT or ssh://HOST. [env: SAMPAN_HOST]",
)  # fmt: skip
@click.option("--tls", is_flag=True, help="Speak TLS with a tcp:// host. Implied by --tlsverify.")
@click.option("--tlscacert", default="", metavar="FILE", help="Trust certificates signed only by this authority.")
@click.option("--tlscert", default="", metavar="FILE", help="The certificate to show.")
@click.option("--tlskey", default="", metavar="FILE", help="Its key.")
@click.option(
    "--tlsverify/--no-tlsverify", default=None,
    help="Speak TLS and verify who answers. [env: DOCKER_TLS_VERIFY, DOCKER_CERT_PATH]",
)  # fmt: skip
@click.option("--debug", "-D", is_flag=True, help="Tell every call to a service on stderr, and how long it took.")
@click.option(
    "--log-level", "-l", type=click.Choice(("debug", "info", "warn", "error", "fatal")), default="info",
    help="debug is --debug; the others say nothing beyond errors. [default: info]",
)  # fmt: skip
@click.pass_context
def app(
    click_context: click.Context,
    /,
    debug: bool,
    log_level: str,
    config: str,
    context: str,
    host: str,
    tls: bool,
    tlscacert: str,
    tlscert: str,
    tlskey: str,
    tlsverify: bool | None,
) -> None:
    """A container engine made of small services: run containers, manage images, networks and volumes."""
    if config:
        os.environ["DOCKER_CONFIG"] = config
    if isinstance(click_context.obj, Session):
        click_context.obj.tells_calls = debug or log_level == "debug"
        managing = click_context.invoked_subcommand in ("context", "completion")
        flags = TlsFlags(tls, tlsverify, tlscacert, tlscert, tlskey)
        choose(click_context.obj, host=host, tls=flags, context=context, managing=managing)
