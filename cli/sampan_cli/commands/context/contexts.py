"""``sampan context``: engines by name."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from sampan.docker.booleans import SPELLINGS
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session, Told
from sampan_cli.credentials.contexts import DEFAULT, TLS_FILES, Context, ContextStore, packed, unpacked
from sampan_cli.credentials.store import config_path
from sampan_cli.options.flags import format_option, inspect_format_option
from sampan_cli.remote.hosts import parse_host

_DOCKER_FLAG = click.option(
    "--docker", "endpoint", default="",
    help="The endpoint: host=tcp://HOST:PORT,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL.",
)  # fmt: skip
_DESCRIPTION = click.option("--description", default="", help="Description of the context.")


_HEADERS: Final = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Error": "ERROR",
    "Current": "CURRENT",
}
_TABLE: Final = "{{.Name}}{{if eq .Current true}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"


def _store() -> ContextStore:
    return ContextStore(config_path(os.environ).parent)


def _with_endpoint(context: Context, endpoint: str) -> Context:
    """Return the context with an endpoint as ``host=…,ca=…`` has it. Raises InvalidArgumentError, OSError."""
    if not endpoint:
        return context
    fields = dict(part.partition("=")[::2] for part in endpoint.split(","))
    for key in fields:
        if key not in ("host", "skip-tls-verify", *TLS_FILES):
            raise InvalidArgumentError(f"unrecognized config key: {key}")
    skip = fields.get("skip-tls-verify", "false")
    if skip not in SPELLINGS:
        raise InvalidArgumentError(f"skip-tls-verify: {skip!r} is neither true nor false")
    tls = {which: Path(fields[which]).read_bytes() for which in TLS_FILES if fields.get(which)}
    host = fields.get("host") or context.host
    parse_host(host)
    if ("cert" in tls) != ("key" in tls):
        raise InvalidArgumentError("cert and key go together")
    if (tls or SPELLINGS[skip]) and not host.startswith("tcp://"):
        raise InvalidArgumentError(f"TLS is for tcp:// hosts, and {host} is none")
    return replace(context, host=host, data_root="", tls=tls, skip_tls_verify=SPELLINGS[skip])


def _default(session: Session) -> Context:
    layout = session.default or session.layout
    host = f"unix://{layout.docker_socket}"
    return Context(DEFAULT, host, "The engine of --data-root and --run-root", str(layout.data_root))


def _get(session: Session, name: str) -> Context:
    return _default(session) if name == DEFAULT else _store().get(name)


@sampan_command("create", examples="sampan context create side --docker host=unix:///run/side/docker.sock")
@click.argument("name")
@_DESCRIPTION
@_DOCKER_FLAG
@click.option("--from", "source", default="", help="Create the context from a named one.")
@click.pass_obj
def create(session: Session, /, name: str, description: str, endpoint: str, source: str) -> None:
    """Create a context: a name for an engine. Without an endpoint it is that of --data-root and --run-root."""
    with Told():
        if source and endpoint:
            raise InvalidArgumentError("cannot use --docker flag when --from is set")
        base = _get(session, source) if source else _default(session)
        made = _with_endpoint(replace(base, name=name), endpoint)
        _store().add(replace(made, description=description or (base.description if source else "")))
    click.echo(name)
    click.echo(f'Successfully created context "{name}"', err=True)


@sampan_command("update", examples='sampan context update side --description "tests"')
@click.argument("name")
@_DESCRIPTION
@_DOCKER_FLAG
def update(name: str, description: str, endpoint: str) -> None:
    """Update a context."""
    with Told():
        found = _with_endpoint(_store().get(name), endpoint)
        _store().put(replace(found, description=description or found.description))
    click.echo(name)
    click.echo(f'Successfully updated context "{name}"', err=True)


@sampan_command("ls", examples="sampan context ls")
@format_option
@click.option("--quiet", "-q", is_flag=True, help="Only show context names.")
@click.pass_obj
def ls(session: Session, /, template: str, *, quiet: bool) -> None:
    """List contexts."""
    from sampan_cli.output.table import print_list

    with Told():
        current, found = session.context, [_default(session), *_store().all()]
    rows = [
        {
            "Name": context.name,
            "Current": context.name == current,
            "Description": context.description,
            "DockerEndpoint": context.host,
            "Error": "",
        }
        for context in found
    ]
    print_list(rows, "{{.Name}}" if quiet else template, _HEADERS, _TABLE, click.echo)


@sampan_command("inspect", examples="sampan context inspect side")
@click.argument("names", nargs=-1)
@inspect_format_option
@click.pass_obj
def inspect(session: Session, /, names: tuple[str, ...], template: str) -> None:
    """Display detailed information on one or more contexts; without a name, on that in use."""
    import asyncio

    from sampan_cli.output.inspecting import inspect as print_them

    async def find(name: str) -> JsonObject:
        return _get(session, name).document()

    with Told():
        code = asyncio.run(print_them(names or (session.context,), find, template))
    if code:
        raise click.exceptions.Exit(code)


@sampan_command("use", examples="sampan context use side")
@click.argument("name")
def use(name: str) -> None:
    """Set the context in use, for the docker command as well."""
    with Told():
        if name != DEFAULT:
            _store().reached(_store().get(name))
        _store().use(name)
    click.echo(name)
    click.echo(f'Current context is now "{name}"', err=True)


@sampan_command("show", examples="sampan context show")
@click.pass_obj
def show(session: Session, /) -> None:
    """Print the name of the context in use."""
    with Told():
        click.echo(session.context)


@sampan_command("rm", examples="sampan context rm side")
@click.argument("names", nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="Force the removal of a context in use.")
@click.pass_obj
def rm(session: Session, /, names: tuple[str, ...], *, force: bool) -> None:
    """Remove one or more contexts."""
    for name in names:
        with Told():
            _store().remove(name, force=force, current=session.context)
        click.echo(name)


@sampan_command("export", examples="sampan context export side side.tar")
@click.argument("name")
@click.argument("file", default="")
@click.pass_obj
def export(session: Session, /, name: str, file: str) -> None:
    """Export a context to a tar archive FILE or a tar stream on STDOUT."""
    target = file or f"{name}.dockercontext"
    with Told():
        raw = packed(_get(session, name))
        if target == "-":
            sys.stdout.buffer.write(raw)
            return
        if Path(target).exists():
            raise InvalidArgumentError(f"{target} exists: choose another file")
        Path(target).write_bytes(raw)
    click.echo(f'Written file "{target}"', err=True)


@sampan_command("import", examples="sampan context import side side.tar")
@click.argument("name")
@click.argument("file")
def import_(name: str, file: str) -> None:
    """Import a context from a tar file, or from STDIN as "-"."""
    with Told():
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        _store().add(unpacked(raw, name))
    click.echo(name)
    click.echo(f'Successfully imported context "{name}"', err=True)
