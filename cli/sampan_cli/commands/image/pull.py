"""``sampan pull``: bring an image."""

import os
import sys
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend


@sampan_command(
    "pull",
    examples="""
    sampan pull debian:12
    sampan pull localhost:5000/team/app@sha256:…
    sampan pull --platform linux/arm64 busybox
    """,
)
@click.argument("name")
@click.option("--all-tags", "-a", is_flag=True, help="Download all tagged images in the repository.")
@click.option("--platform", default="", help="Platform of the image, such as linux/arm64.")
@click.option("--quiet", "-q", is_flag=True, help="Suppress the progress.")
@click.pass_obj
def command(session: Session, /, name: str, all_tags: bool, platform: str, quiet: bool) -> None:
    """Download an image from a registry."""
    if all_tags:
        session.run(lambda engine: pull_all_tags(engine, name, platform, quiet))
    else:
        session.run(lambda engine: pull_image(engine, name, platform, quiet))


async def pull_all_tags(engine: "ImageBackend", name: str, platform: str, quiet: bool) -> None:
    """Bring all images that a repository has a tag for, and print its whole name last.

    Raises:
        InvalidArgumentError: the name has a tag or a digest.
    """
    from sampan.oci.reference import parse_reference
    from sampan_cli.credentials.store import CredentialStore, config_path
    from sampan_cli.output.pulling import pull

    parsed = parse_reference(name)
    if not parsed.is_name_only:
        raise InvalidArgumentError("tag can't be used with --all-tags/-a")
    credentials = await CredentialStore(config_path(os.environ)).for_image(name)
    for tag in await engine.remote_tags(str(parsed), credentials=credentials):
        await pull(engine, f"{parsed}:{tag}", platform=platform, quiet=quiet, stream=sys.stdout)
    click.echo(str(parsed))


async def pull_image(engine: "ImageBackend", name: str, platform: str, quiet: bool) -> None:
    """Bring the image and print its whole name last."""
    from sampan.oci.reference import parse_reference
    from sampan_cli.output.pulling import pull

    parsed = parse_reference(name)
    if parsed.is_name_only and not quiet:
        click.echo("Using default tag: latest")
    reference = await pull(engine, name, platform=platform, quiet=quiet, stream=sys.stdout)
    click.echo(str(reference))
