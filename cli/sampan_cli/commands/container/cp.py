"""``sampan cp``: copy files between a container and the local file system."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend

_PIECE_BYTES: Final = 1 << 20


@sampan_command(
    "cp",
    examples="""
    sampan cp web:/etc/hosts .
    sampan cp site/. web:/srv
    tar c conf | sampan cp - web:/etc
    """,
)
@click.argument("source")
@click.argument("target")
@click.option("--archive", "-a", is_flag=True, help="Archive mode: copy all uid/gid information.")
@click.option("--follow-link", "-L", "follow", is_flag=True, help="Always follow symbol link in SRC_PATH.")
@click.option(
    "--quiet", "-q", is_flag=True, expose_value=False, help="Accepted for Docker's sake: nothing is shown anyway."
)
@click.pass_obj
def command(session: Session, /, source: str, target: str, archive: bool, follow: bool) -> None:
    """Copy files between a container and the local filesystem: CONTAINER:PATH LOCAL, or LOCAL CONTAINER:PATH.

    Use - as the local path to write a tar archive to STDOUT, or to read one from STDIN.
    """
    session.run(lambda engine: copy(engine, source, target, archive=archive, follow=follow))


async def copy(engine: "ContainerBackend", source: str, target: str, *, archive: bool, follow: bool) -> None:
    """Copy in the direction that the arguments say. Raises InvalidArgumentError if they say none."""
    from sampan_cli.streams import archive_file, copying

    container, path = split(source)
    into, place = split(target)
    if container and into:
        raise InvalidArgumentError("copying between containers is not supported")
    if container:
        if target == "-":
            await archive_file.write(copying.pieces_of(engine, container, path), "", "copy")
        else:
            await copying.copy_out(engine, container, path, target, archive=archive, follow=follow)
    elif into and source == "-":
        await copying.write_in(engine, into, place, _stdin())
    elif into:
        await copying.copy_in(engine, source, into, place, archive=archive, follow=follow)
    else:
        raise InvalidArgumentError("must specify at least one container source")


def split(argument: str) -> tuple[str, str]:
    """Return container and path; no container for a local path, which begins with ``/`` or ``.`` if it has a colon."""
    container, colon, path = argument.partition(":")
    if not colon or argument.startswith((".", "/")):
        return "", argument
    return container, path if path.startswith("/") else f"/{path}"


async def _stdin() -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(os.read, sys.stdin.fileno(), _PIECE_BYTES):
        yield piece
