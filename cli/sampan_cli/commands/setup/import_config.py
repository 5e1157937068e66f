"""``sampan system import-config``: a dockerd's daemon.json as configuration of this engine."""

import os
from pathlib import Path

import click

from sampan.errors import AlreadyExistsError, SampanError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError


@sampan_command(
    "import-config",
    examples="""
    sampan system import-config /etc/docker/daemon.json
    sampan system import-config --write /etc/sampan /etc/docker/daemon.json
    """,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("/etc/docker/daemon.json"))
@click.option(
    "--write", "directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIRECTORY",
    help="Write <service>.toml there; no file that is there is overwritten.",
)  # fmt: skip
def command(file: Path, directory: Path | None) -> None:
    """Translate a daemon.json of dockerd's, and say what of it has no equivalent.

    Shows the files, or writes them. What has no equivalent is named on standard error.
    """
    from sampan_cli.migration.daemon_json import read, translate

    try:
        result = translate(read(file))
        texts = result.texts()
        if directory is not None:
            _write(directory, texts)
    except SampanError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or directory}: {(error.strerror or str(error)).lower()}") from error
    for service, text in texts.items():
        click.echo(str(directory / f"{service}.toml") if directory is not None else f"# {service}.toml\n{text}")
    for line in result.without:
        click.echo(f"no equivalent: {line}", err=True)
    for line in result.notes:
        click.echo(f"note: {line}", err=True)


def _write(directory: Path, texts: dict[str, str]) -> None:
    paths = {directory / f"{service}.toml": text for service, text in texts.items()}
    for path in paths:
        if path.exists() or path.is_symlink():
            raise AlreadyExistsError(f"{path} is there already: nothing is overwritten")
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in paths.items():
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            file.write(text)
