"""What becomes of a container's files: ``sampan commit`` makes an image of them, ``sampan export`` an archive."""

from typing import TYPE_CHECKING

import click

from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import ContainerBackend


@sampan_command(
    "commit",
    examples="""
    sampan commit web web:patched
    sampan commit -c 'CMD ["nginx"]' -m "with nginx" web web:nginx
    """,
)
@click.argument("container", shell_complete=completing.containers)
@click.argument("reference", default="")
@click.option("--author", "-a", default="", help='Author, such as "Jane Doe <jane@example.com>".')
@click.option("--change", "-c", "changes", multiple=True, help="Apply a Dockerfile instruction to the image.")
@click.option("--message", "-m", default="", help="Commit message.")
@click.option(
    "--pause/--no-pause", "-p", default=True, help="Pause the container during the commit.", show_default=True
)
@click.pass_obj
def commit(
    session: Session,
    /,
    container: str,
    reference: str,
    author: str,
    changes: tuple[str, ...],
    message: str,
    pause: bool,
) -> None:
    """Create a new image from a container's changes; print the image's ID."""

    async def work(engine: "ContainerBackend") -> None:
        from sampan.engine.commit import CommitOptions

        options = CommitOptions(reference, author, message, changes, pause)
        click.echo(await engine.commit_container(container, options))

    session.run(work)


@sampan_command("export", examples="sampan export -o web.tar web\nsampan export web | tar t")
@click.argument("container", shell_complete=completing.containers)
@click.option("--output", "-o", default="", help="Write to a file, instead of STDOUT.")
@click.pass_obj
def export(session: Session, /, container: str, output: str) -> None:
    """Export a container's filesystem as a tar archive, streamed to STDOUT by default."""
    from sampan_cli.streams import archive_file

    session.run(lambda engine: archive_file.write(engine.export_container(container), output, "export"))
