"""``sampan import``: make an image from the tar of a root file system."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan_cli.backend import ImageBackend

_PIECE_BYTES: Final = 1 << 20
_SCHEMES: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The command line of ``sampan import``."""

    source: str
    reference: str
    changes: tuple[str, ...]
    message: str
    platform: str


@sampan_command(
    "import",
    examples="""
    sampan import rootfs.tar debian:mine
    tar c -C rootfs . | sampan import -c 'CMD ["/bin/sh"]' - debian:mine
    """,
)
@click.argument("source")
@click.argument("reference", default="")
@click.option("--change", "-c", "changes", multiple=True, help="Apply a Dockerfile instruction to the image.")
@click.option("--message", "-m", default="", help="Set the commit message of the image.")
@click.option("--platform", default="", help="Platform of the image, such as linux/arm64.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Create an image from a tarball: a file, a URL, or - for standard input; print the image's ID."""
    options = from_flags(ImportOptions, flags)
    session.run(lambda engine: import_image(engine, options))


async def import_image(engine: "ImageBackend", options: ImportOptions) -> None:
    """Send the tar and print the image's ID.

    Raises:
        InvalidArgumentError: it cannot be read, or is not a tar.
    """
    from sampan.engine.progress import Done

    async with _archive(options.source) as pieces:
        events = engine.import_image(
            pieces,
            reference=options.reference,
            message=options.message,
            changes=options.changes,
            platform=options.platform,
        )
        async for event in events:
            if isinstance(event, Done):
                click.echo(event.image.id)


@asynccontextmanager
async def _archive(source: str) -> AsyncIterator[AsyncIterator[bytes]]:
    if source.startswith(_SCHEMES):
        from sampan.engine.archives import archive_url, remote_archive

        async with remote_archive(archive_url(source)) as archive:
            yield archive.pieces
        return
    with await asyncio.to_thread(_open, source) as file:
        yield _pieces(file)


def _open(source: str) -> IO[bytes]:
    if source == "-":
        return sys.stdin.buffer
    try:
        return open(source, "rb")
    except OSError as error:
        raise InvalidArgumentError(f"open {source}: {(error.strerror or str(error)).lower()}") from error


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
