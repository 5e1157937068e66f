"""``sampan logout``: forget the password for a registry."""

import asyncio
import os

import click

from sampan.errors import SampanError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError
from sampan_cli.commands.registry.login import registry_name


@sampan_command("logout", examples="sampan logout registry.example.com:5000")
@click.argument("server", default="")
def command(server: str) -> None:
    """Log out from a registry, Docker's own if none is named."""
    registry = registry_name(server)
    click.echo(f"Removing login credentials for {server_name(registry)}")
    try:
        asyncio.run(_erase(registry))
    except SampanError as error:
        raise CommandError(str(error)) from error


def server_name(registry: str) -> str:
    """Return what a registry goes by where credentials are kept."""
    from sampan.oci.reference import DEFAULT_REGISTRY

    return f"https://index.{DEFAULT_REGISTRY}/v1/" if registry == DEFAULT_REGISTRY else registry


async def _erase(registry: str) -> None:
    from sampan_cli.credentials.store import CredentialStore, config_path

    await CredentialStore(config_path(os.environ)).erase(registry)
