"""``sampan login``: give the password for a registry once."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from sampan.errors import InvalidArgumentError, SampanError
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session

if TYPE_CHECKING:
    from sampan.resource.image import Credentials
    from sampan_cli.backend import RegistryBackend

_UNENCRYPTED: Final = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""
_EXISTING: Final = """Authenticating with existing credentials... [Username: {}]

 Info -> To login with a different account, run 'sampan logout' followed by 'sampan login'

"""


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """The command line of ``sampan login``, with the password read."""

    registry: str
    username: str
    password: str


@sampan_command("login", examples="sampan login registry.example.com:5000\nsampan login -u ci --password-stdin < token")
@click.argument("server", default="")
@click.option("--username", "-u", default="", help="Username.")
@click.option("--password", "-p", default=None, help="Password; better give it on standard input.")
@click.option("--password-stdin", is_flag=True, help="Take the password from stdin.")
@click.pass_obj
def command(session: Session, /, server: str, username: str, password: str | None, password_stdin: bool) -> None:
    """Authenticate to a registry, Docker's own if none is named.

    Credentials are kept where Docker keeps them, in config.json or the helper that it names.
    """
    registry = registry_name(server)
    given = _given(username, password, password_stdin=password_stdin)
    if not username and not given:
        found: list[bool] = []
        session.run(lambda engine: login_again(engine, registry, found))
        if any(found):
            return
    options = _asked(registry, username, given)
    session.run(lambda engine: login(engine, options))


def _given(username: str, password: str | None, *, password_stdin: bool) -> str:
    """Return the password that the command line gives, or stdin."""
    if password_stdin:
        if password is not None:
            raise CommandError("conflicting options: cannot specify both --password and --password-stdin")
        if not username:
            raise CommandError("the --password-stdin option requires --username to be set")
        return sys.stdin.read().rstrip("\r\n")
    if password is None:
        return ""
    if not password:
        raise CommandError("password is empty")
    click.echo("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", err=True)
    return password


def _asked(registry: str, username: str, password: str) -> LoginOptions:
    """Ask for what is missing."""
    if not (username and password) and not sys.stdin.isatty():
        raise CommandError("Cannot perform an interactive login from a non TTY device")
    username = username or click.prompt("Username", default="", show_default=False).strip()
    if not username:
        raise CommandError("Non-null Username Required")
    password = password or click.prompt("Password", default="", show_default=False, hide_input=True)
    if not password:
        raise CommandError("Password Required")
    return LoginOptions(registry, username, password)


def registry_name(server: str) -> str:
    """Return the registry that ``server``, a name or a URL, means."""
    from sampan.oci.reference import DEFAULT_REGISTRY

    name = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if name in ("", f"index.{DEFAULT_REGISTRY}") else name


async def login_again(engine: "RegistryBackend", registry: str, found: list[bool]) -> None:
    """Log in with what is kept for the registry; ``found`` gets whether that did it."""
    from sampan_cli.credentials.store import CredentialStore, config_path

    credentials = await CredentialStore(config_path(os.environ)).get(registry)
    if credentials is None:
        return
    click.echo(_EXISTING.format(credentials.username or "<token>"), err=True)
    try:
        await _check(engine, registry, credentials)
    except SampanError as error:
        click.echo(f"Login did not succeed, error: {error}", err=True)
    else:
        found.append(True)


async def login(engine: "RegistryBackend", options: LoginOptions) -> None:
    """Ask the registry whether it knows the user, and keep the credentials if it does.

    Raises:
        UnauthenticatedError: it does not; or the credential helper fails.
        UnavailableError: it does not answer.
    """
    from sampan.resource.image import Credentials

    if not options.username or not options.password:
        raise InvalidArgumentError("username and password must not be empty")
    credentials = Credentials(username=options.username, password=options.password)
    await _check(engine, options.registry, credentials, keep=True)


async def _check(engine: "RegistryBackend", registry: str, credentials: "Credentials", *, keep: bool = False) -> None:
    from sampan.resource.image import Credentials
    from sampan_cli.credentials.store import CredentialStore, config_path

    token = await engine.images.login(registry, credentials)
    if keep:
        if token:
            credentials = Credentials(username=credentials.username, identity_token=token)
        file = await CredentialStore(config_path(os.environ)).store(registry, credentials)
        if file is not None:
            click.echo(_UNENCRYPTED.format(file), err=True)
    click.echo("Login Succeeded")
