"""``sampan push``: bring an image to its registry."""

import sys
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend


@sampan_command(
    "push", examples="sampan push localhost:5000/team/app:1\nsampan push --all-tags localhost:5000/team/app"
)
@click.argument("name", shell_complete=completing.images)
@click.option("--all-tags", "-a", is_flag=True, help="Push all tags of an image to the repository.")
@click.option("--platform", default="", help="Push this platform's image alone, such as linux/arm64.")
@click.option("--quiet", "-q", is_flag=True, help="Suppress verbose output.")
@click.pass_obj
def command(session: Session, /, name: str, all_tags: bool, platform: str, quiet: bool) -> None:
    """Upload an image to a registry."""
    session.run(lambda engine: push_image(engine, name, all_tags, platform, quiet))


async def push_image(engine: "ImageBackend", name: str, all_tags: bool, platform: str, quiet: bool) -> None:
    """Push one tag or all of them, and print the image's whole name last.

    Raises:
        InvalidArgumentError: a digest, or a tag together with ``all_tags``.
        NotFoundError: no such image.
    """
    from sampan.engine.transfer import check_push, local_tags
    from sampan.oci.reference import parse_reference
    from sampan_cli.output.pushing import push

    wanted = parse_reference(name)
    if all_tags and not wanted.is_name_only:
        raise InvalidArgumentError("tag can't be used with --all-tags/-a")
    check_push(wanted)
    if not all_tags and wanted.is_name_only and not quiet:
        click.echo("Using default tag: latest")
    if not quiet:
        click.echo(f"The push refers to repository [{wanted.name}]")
    references = await local_tags(engine.images, wanted) if all_tags else [wanted.with_default_tag()]
    for reference in references:
        await push(engine, reference, platform=platform, quiet=quiet, stream=sys.stdout)
    if quiet:
        click.echo(wanted.name if all_tags else str(references[0]))
