"""``sampan login``: give the password for a registry once."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sampan.errors import InvalidArgumentError
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """The command line of ``sampan login``, with the password read."""

    registry: str
    username: str
    password: str


@sampan_command("login", examples="sampan login registry.example.com:5000\nsampan login -u ci --password-stdin < token")
@click.argument("server", default="")
@click.option("--username", "-u", default="", help="Username.")
@click.option("--password", "-p", default="", help="Password; better give it on standard input.")
@click.option("--password-stdin", is_flag=True, help="Take the password from stdin.")
@click.pass_obj
def command(session: Session, /, server: str, username: str, password: str, password_stdin: bool) -> None:
    """Authenticate to a registry, Docker's own if none is named.

    Credentials are kept where Docker keeps them, in config.json or the helper that it names.
    """
    if password:
        click.echo("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", err=True)
    if password_stdin:
        if password or not username:
            raise click.UsageError("--password-stdin needs --username and no --password")
        password = sys.stdin.read().rstrip("\r\n")
    username = username or click.prompt("Username", err=True)
    password = password or click.prompt("Password", hide_input=True, err=True)
    options = LoginOptions(registry_name(server), username, password)
    session.run(lambda engine: login(engine, options))


def registry_name(server: str) -> str:
    """Return the registry that ``server``, a name or a URL, means."""
    from sampan.oci.reference import DEFAULT_REGISTRY

    name = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if name in ("", f"index.{DEFAULT_REGISTRY}") else name


async def login(engine: "Engine", options: LoginOptions) -> None:
    """Ask the registry whether it knows the user, and keep the credentials if it does.

    Raises:
        UnauthenticatedError: it does not.
        UnavailableError: it does not answer.
    """
    from sampan.api.image.v1 import images_pb2 as pb
    from sampan.wire.channel import rpc_errors
    from sampan_cli.credentials import CredentialStore, config_path

    if not options.username or not options.password:
        raise InvalidArgumentError("username and password must not be empty")
    credentials = pb.Credentials(username=options.username, password=options.password)
    with rpc_errors():
        answer = await engine.images.Login(pb.LoginRequest(registry=options.registry, credentials=credentials))
    if answer.identity_token:
        credentials = pb.Credentials(username=options.username, identity_token=answer.identity_token)
    file = await CredentialStore(config_path(os.environ)).store(options.registry, credentials)
    if file is not None:
        click.echo(f"WARNING! Your credentials are stored unencrypted in '{file}'.", err=True)
    click.echo(answer.status or "Login Succeeded")
