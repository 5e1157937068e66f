"""``sampan system certs``: certificates for reaching an engine over TCP."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError

if TYPE_CHECKING:
    from sampan_cli.credentials.authority import Authority


@dataclass(frozen=True, slots=True)
class CertsOptions:
    """The command line."""

    directory: Path
    hosts: tuple[str, ...]
    clients: tuple[str, ...]
    revoked: tuple[Path, ...]
    days: int


@sampan_command(
    "certs",
    examples="""
    sampan system certs --host engine.example --host 10.0.0.5 --client alice
    sampan system certs --client bob --client ci
    sampan system certs --revoke /etc/sampan/tls/clients/bob/cert.pem
    """,
)
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default=Path("/etc/sampan/tls"),
    show_default=True, help="Where the authority is, or is made.",
)  # fmt: skip
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Make the engine's certificate, good for this name or address.",
)
@click.option("--client", "clients", multiple=True, metavar="NAME", help="Make a client's certificate.")
@click.option(
    "--revoke", "revoked", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
    help="Add a client's certificate to crl.pem.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, 7300), default=730, show_default=True, help="How long they are good for."
)
def command(
    directory: Path, hosts: tuple[str, ...], clients: tuple[str, ...], revoked: tuple[Path, ...], days: int
) -> None:
    """Make an authority, and certificates that it signs for the engine and for its clients.

    The authority is made with the first of them, and used from then on; without options that and a certificate for
    this machine's name, localhost and 127.0.0.1 is all. No file that is there is overwritten but crl.pem. All of them
    are their owner's alone.
    """
    options = CertsOptions(directory.absolute(), hosts, clients, revoked, days)
    try:
        for line in make(options):
            click.echo(line)
    except SampanError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or directory}: {(error.strerror or str(error)).lower()}") from error


def make(options: CertsOptions) -> Iterator[str]:
    """Make what is asked for and yield what to tell about it.

    Raises:
        AlreadyExistsError: a file is there; nothing has been written.
        InvalidArgumentError, NotFoundError: a name that is none; an authority that is not whole.
    """
    from sampan_cli.credentials import authority as made

    place = options.directory
    hosts = options.hosts
    if not (hosts or options.clients or options.revoked):
        hosts = tuple(dict.fromkeys((socket.gethostname(), "localhost", "127.0.0.1", "::1")))
    for name in options.clients:
        made.check_client_name(name)
    if len(set(options.clients)) < len(options.clients):
        raise InvalidArgumentError("a client is named twice")
    files: dict[Path, bytes] = {}
    if (place / made.CA_CERT).exists() or (place / made.CA_KEY).exists():
        signer = made.load_authority(place, options.days)
    elif options.revoked:
        raise NotFoundError(f"there is no authority in {place}")
    else:
        signer, own = made.new_authority(options.days)
        files |= {place / name: text for name, text in own.items()}
        files[place / made.CRL] = signer.crl(())
    if hosts:
        files |= {place / name: text for name, text in signer.server(hosts).items()}
    for client in options.clients:
        files |= {place / "clients" / client / name: text for name, text in signer.client(client).items()}
    made.write_all(files)
    yield from (f"{path}" for path in files)
    if options.revoked:
        yield str(_revoke(place, signer, options.revoked))
    if hosts:
        yield from _how_to_serve(place)
    yield from (_how_to_connect(place / "clients" / client) for client in options.clients)


def _revoke(place: Path, signer: "Authority", revoked: tuple[Path, ...]) -> Path:
    from sampan_cli.credentials import authority as made

    target = place / made.CRL
    serials = dict.fromkeys(made.serials_of(target) if target.exists() else ())
    for path in revoked:
        serials |= dict.fromkeys(made.serials_of(path))
    new = target.with_name(f".{made.CRL}.{os.getpid()}")
    made.write_all({new: signer.crl(serials)})
    new.replace(target)  # whole or not at all: the engine reads it as soon as it changes
    return target


def _how_to_serve(place: Path) -> Iterator[str]:
    yield "dockerapi.toml:"
    yield '    listen = ["tcp://0.0.0.0:2376"]'
    for key, name in (("cert", "server-cert.pem"), ("key", "server-key.pem"), ("ca", "ca.pem"), ("crl", "crl.pem")):
        yield f'    tls_{key} = "{place / name}"'


def _how_to_connect(place: Path) -> str:
    return f"client: DOCKER_HOST=tcp://HOST:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={place}"
