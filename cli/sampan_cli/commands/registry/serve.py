"""``sampan registry serve``: a registry over the engine's content."""

from dataclasses import asdict, dataclass

import click

from sampan.docker.sizes import parse_size
from sampan.errors import SampanError
from sampan.layout import Layout
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.flags import from_flags
from sampan_cli.options.types import Parsed
from sampan_cli.supervisor.foreground import become, command_line

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command line of ``sampan registry serve``: what it does not say is left to the service's configuration."""

    listen: str | None
    htpasswd: str | None
    tls_cert: str | None
    tls_key: str | None
    read_only: bool
    names: tuple[str, ...]
    expose: tuple[str, ...]
    max_blob_bytes: int | None
    log_level: str | None

    def arguments(self, layout: Layout) -> list[str]:
        """Return the service's command line."""
        return command_line("registryd", layout, asdict(self))


@sampan_command(
    "serve",
    examples="""
    sampan registry serve
    sampan registry serve --listen 0.0.0.0:5000 --htpasswd users --tls-cert reg.crt --tls-key reg.key
    docker tag debian:12 localhost:5000/debian:12    # and others can pull it
    """,
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen. [default: 127.0.0.1:5000]")
@click.option("--htpasswd", type=_FILE, help="Let in only the users in this file, which `htpasswd -B` writes.")
@click.option("--tls-cert", type=_FILE, help="Serve HTTPS with this certificate chain (PEM).")
@click.option("--tls-key", type=_FILE, help="The certificate's key (PEM).")
@click.option("--read-only", is_flag=True, help="Refuse every push and removal.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST[:PORT]",
    help="A further name that clients know this registry by: the engine's images of that name are served.",
)  # fmt: skip
@click.option(
    "--expose", multiple=True, metavar="REGISTRY",
    help="Serve the images, too, that the engine has of another registry, such as docker.io.",
)  # fmt: skip
@click.option(
    "--max-blob-size", "max_blob_bytes", type=Parsed("size", parse_size), metavar="SIZE",
    help="Refuse larger blobs. [default: 64g]",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="debug shows each request.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Serve a registry, in the foreground, until Ctrl-C or SIGTERM.

    What is pushed is kept in the engine's own content store: a layer that an image of the engine has too is stored
    once. Images of the engine that are tagged with the registry's name can be pulled without having been pushed.
    """
    layout = session.here("registry serve")
    try:
        layout.check()
        arguments = from_flags(ServeOptions, flags).arguments(layout)
    except SampanError as error:
        raise CommandError(str(error)) from error
    become("registryd", layout, arguments, "registry")
