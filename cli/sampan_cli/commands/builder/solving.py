"""A build as the command line asks for it: what it sends, what it serves meanwhile, and what becomes of the answer."""

import asyncio
import hashlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Final

import click

from sampan.build.protocols import Builder, Served, Sink
from sampan.build.request import (
    DOCKERFILE_FRONTEND,
    UPLOADED,
    CacheOption,
    Export,
    SolveRequest,
    SolveResponse,
    image_names,
    step_network,
)
from sampan.docker.options.hosts import build_hosts
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan.oci.platform import host_platform
from sampan.tar.compression import is_archive
from sampan_cli.credentials.store import CredentialStore, config_path
from sampan_cli.options import build as parse
from sampan_cli.options.build import BuildOptions, Output
from sampan_cli.options.variables import labels
from sampan_cli.output.building import View, open_view

_DOCKERFILE: Final = "Dockerfile"
_STDIN: Final = "-"
_HEAD_BYTES: Final = 1024
_PIECE_BYTES: Final = 1 << 20
_LAST_WORDS_S: Final = 5.0
_CALLS: Final = {"check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline",
                 "targets": "frontend.targets"}  # fmt: skip


@dataclass
class _Context:
    """Where the files of a build come from."""

    attributes: dict[str, str] = field(default_factory=dict)
    directories: dict[str, Path] = field(default_factory=dict)
    uploads: dict[str, Callable[[], AsyncIterator[bytes]]] = field(default_factory=dict)
    shared_key: str = ""


async def run_build(builder: Builder, options: BuildOptions, environ: Mapping[str, str], progress: IO[str]) -> int:
    """Build, show how it goes on ``progress``, and tell what came of it; return the exit code.

    Raises:
        SampanError: an option that cannot be, or the build's own failure; its notes show what is to blame.
    """
    outputs = _outputs(options)
    with ExitStack() as stack:
        context = await asyncio.to_thread(_context, options, stack)
        named, directories = _build_contexts(options)
        context.attributes |= named
        context.directories |= directories
        served = Served(
            credentials=partial(_credentials, CredentialStore(config_path(environ))),
            uploads=context.uploads,
            directories=context.directories,
            secrets=await asyncio.to_thread(_secrets, options, environ),
            agents=dict(parse.parse_ssh(text, environ) for text in options.ssh),
            outputs={str(number): sink for number, each in enumerate(outputs) if (sink := _sink(each)) is not None},
            shared_key=context.shared_key,
        )
        async with builder.serve(served) as session:
            network, granted = step_network(options.network)
            request = SolveRequest(
                ref=secrets.token_hex(12),
                session=session,
                frontend=DOCKERFILE_FRONTEND,
                frontend_attributes=_attributes(options, environ) | network | context.attributes,
                exports=tuple(each.export for each in outputs),
                cache_imports=tuple(map(parse.parse_cache, options.cache_from)),
                cache_exports=tuple(map(_cache_export, options.cache_to)),
                entitlements=granted | frozenset(options.allow),
            )
            kind = "quiet" if options.quiet else options.progress
            with open_view(kind, progress) as view:
                response = await _solve(builder, request, view)
    return _tell(options, response)


async def _solve(builder: Builder, request: SolveRequest, view: View) -> SolveResponse:
    async def show() -> None:
        async with aclosing(builder.status(request.ref)) as statuses:
            async for status in statuses:
                view.update(status.updates)

    showing = asyncio.create_task(show(), name="show build")
    try:
        response = await builder.solve(request)
    finally:
        # The last of the progress comes as the build ends.
        await asyncio.wait({showing}, timeout=_LAST_WORDS_S)
        showing.cancel()
        await asyncio.wait({showing})
    return response


# What is asked for ---------------------------------------------


def _attributes(options: BuildOptions, environ: Mapping[str, str]) -> dict[str, str]:
    attributes = {
        f"build-arg:{name}": value for name, value in parse.build_arguments(options.build_arg, environ).items()
    }
    attributes |= {f"label:{name}": value for name, value in labels(options.label).items()}
    attributes |= parse.attestations(options.attest, options.provenance, options.sbom)
    single = {
        "target": options.target,
        "platform": ",".join(options.platform),
        "cgroup-parent": options.cgroup_parent,
        "ulimit": ",".join(options.ulimit),
        "add-hosts": build_hosts(options.add_host),
        "shm-size": _bytes(options.shm_size),
        "no-cache": ",".join(options.no_cache_filter),
        "image-resolve-mode": "pull" if options.pull else "",
        "memory": _bytes(options.memory),
        "memswap": options.memory_swap if options.memory_swap == "-1" else _bytes(options.memory_swap),
        "cpuperiod": str(options.cpu_period or ""),
        "cpuquota": str(options.cpu_quota or ""),
        "cpushares": str(options.cpu_shares or ""),
        "cpusetcpus": options.cpuset_cpus,
        "cpusetmems": options.cpuset_mems,
    }
    attributes |= {name: value for name, value in single.items() if value}
    if options.no_cache:
        if options.no_cache_filter:
            raise InvalidArgumentError("--no-cache and --no-cache-filter cannot currently be used together")
        attributes["no-cache"] = ""
    call = "check" if options.check else options.call
    if call != "build":
        name = call.partition(",")[0]
        if name not in _CALLS:
            raise InvalidArgumentError(f"call {name!r} is not known: use build, check, outline or targets")
        attributes["requestid"] = _CALLS[name]
    return attributes


def _bytes(text: str) -> str:
    return str(parse_size(text)) if text else ""


def _secrets(options: BuildOptions, environ: Mapping[str, str]) -> dict[str, Callable[[], bytes]]:
    sources = [parse.parse_secret(text, environ) for text in options.secret]
    for each in sources:
        each.check()
    return {each.id: partial(each.read, environ) for each in sources}


def _cache_export(text: str) -> CacheOption:
    option = parse.parse_cache(text)
    if option.type == "local":
        raise InvalidArgumentError("--cache-to type=local is not supported by this command: use registry or inline")
    return option


def _build_contexts(options: BuildOptions) -> tuple[dict[str, str], dict[str, Path]]:
    attributes: dict[str, str] = {}
    directories: dict[str, Path] = {}
    for text in options.build_context:
        name, source = parse.parse_context(text)
        if parse.is_remote(source) or source.startswith("docker-image://"):
            attributes[f"context:{name}"] = source
        elif "://" in source:
            raise InvalidArgumentError(
                f"build context {source!r} is not supported: use a directory, URL or docker-image://"
            )
        elif not Path(source).is_dir():
            raise InvalidArgumentError(f"failed to get build context path {source}: no such directory")
        else:
            attributes[f"context:{name}"] = f"local:{name}"
            directories[name] = Path(source)
    return attributes, directories


def _outputs(options: BuildOptions) -> list[Output]:
    outputs = [parse.parse_output(text) for text in options.output]
    if options.push and options.load:
        raise InvalidArgumentError("push and load may not be set together at the moment")
    if (not outputs or options.push or options.load) and all(each.export.type != "image" for each in outputs):
        outputs.append(Output(Export("image")))
    if options.check or options.call != "build":
        return []
    names = image_names(options.tag)
    annotations = dict(_annotation(text) for text in options.annotation)
    return [_named(each, names, annotations, push=options.push) for each in outputs]


def _annotation(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidArgumentError(f"invalid annotation {text!r}: expected key=value")
    place, colon, rest = key.partition(":")
    return (f"annotation-{place}.{rest}", value) if colon else (f"annotation.{key}", value)


def _named(output: Output, names: str, annotations: Mapping[str, str], *, push: bool) -> Output:
    attributes = dict(output.export.attributes)
    if output.export.type in ("image", "docker", "oci"):
        attributes |= annotations
        if names and "name" not in attributes:
            attributes["name"] = names
        if push and output.export.type == "image":
            attributes["push"] = "true"
    return replace(output, export=replace(output.export, attributes=attributes))


def _sink(output: Output) -> Sink | None:
    if output.export.type == "local":
        return Sink(directory=output.path)
    if output.to_stdout:
        if sys.stdout.isatty():
            raise InvalidArgumentError("dest file is required for an archive: refusing to write it to a terminal")
        return Sink(write=_to_stdout)
    return Sink(write=partial(_to_file, output.path)) if output.path is not None else None


async def _to_stdout(pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        await asyncio.to_thread(sys.stdout.buffer.write, piece)
    await asyncio.to_thread(sys.stdout.buffer.flush)


async def _to_file(path: Path, pieces: AsyncIterator[bytes]) -> None:
    """Write a file; it has its name when it is whole."""
    partial_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with await asyncio.to_thread(partial_path.open, "wb") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(partial_path.rename, path)
    except BaseException:
        await asyncio.to_thread(partial_path.unlink, missing_ok=True)
        raise


# Where its files are -------------------------------------------


def _context(options: BuildOptions, stack: ExitStack) -> _Context:
    """Find the context and the Dockerfile. Raises NotFoundError, InvalidArgumentError."""
    found = _Context()
    if options.context == _STDIN:
        _from_stdin(options, found, stack)
    elif parse.is_remote(options.context):
        found.attributes["context"] = options.context
        if options.file:
            found.attributes["filename"] = options.file
    else:
        root = Path(options.context)
        if not root.is_dir():
            raise NotFoundError(f"unable to prepare context: path {options.context!r} not found")
        found.directories["context"] = root
        found.shared_key = hashlib.sha256(f"{root.absolute()}\0{host_platform()}\0{os.getuid()}".encode()).hexdigest()
        _dockerfile(options, root, found, stack)
    return found


def _dockerfile(options: BuildOptions, root: Path, found: _Context, stack: ExitStack) -> None:
    if options.file == _STDIN:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-build-")))
        (place / _DOCKERFILE).write_bytes(sys.stdin.buffer.read())
        found.directories["dockerfile"] = place
        return
    path = Path(options.file) if options.file else root / _DOCKERFILE
    if not path.exists() and not options.file:
        path = path.with_name(_DOCKERFILE.lower()) if path.with_name(_DOCKERFILE.lower()).exists() else path
    if not path.exists():
        raise NotFoundError(f"failed to read dockerfile: open {path}: no such file or directory")
    found.directories["dockerfile"] = path.parent
    found.attributes["filename"] = path.name


def _from_stdin(options: BuildOptions, found: _Context, stack: ExitStack) -> None:
    """A context on stdin is an archive; anything else there is a Dockerfile, and the context is empty."""
    if options.file == _STDIN:
        raise InvalidArgumentError("invalid argument: can't use stdin for both build context and dockerfile")
    head = sys.stdin.buffer.read(_HEAD_BYTES)
    if is_archive(head):
        name = secrets.token_hex(12)
        found.uploads[name] = partial(_rest_of_stdin, head)
        found.attributes["context"] = f"{UPLOADED}/{name}"
        if options.file:
            found.attributes["filename"] = options.file
        return
    if options.file:
        raise InvalidArgumentError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-build-")))
    (place / "context").mkdir()
    (place / _DOCKERFILE).write_bytes(head + sys.stdin.buffer.read())
    found.directories |= {"context": place / "context", "dockerfile": place}


async def _rest_of_stdin(head: bytes) -> AsyncIterator[bytes]:
    yield head
    while piece := await asyncio.to_thread(sys.stdin.buffer.read, _PIECE_BYTES):
        yield piece


async def _credentials(store: CredentialStore, registry: str) -> tuple[str, str] | None:
    found = await store.get(registry)
    if found is None:
        return None
    if found.identity_token:
        return "<token>", found.identity_token
    return (found.username, found.password) if found.username else None


# What came of it -----------------------------------------------


def _tell(options: BuildOptions, response: SolveResponse) -> int:
    image, told = response.image_id, response.exporter_response
    if options.iidfile:
        _write(options.iidfile, image.encode())
    if options.metadata_file:
        _write(options.metadata_file, json.dumps(_metadata(told), indent=2).encode() + b"\n")
    if options.check or options.call != "build":
        form = "json" if "format=json" in options.call else "txt"
        answer = told.get(f"result.{form}", "").rstrip()
        click.echo(answer or "Check complete, no warnings found.")
        return int(told.get("result.statuscode", "0") or 0)
    if options.quiet and image:
        click.echo(image)
    return 0


def _metadata(told: Mapping[str, str]) -> dict[str, object]:
    """Return what is told, with JSON in it as it is, as ``docker buildx build --metadata-file`` writes it."""
    import base64
    import binascii

    found: dict[str, object] = {}
    for name, value in told.items():
        try:
            found[name] = json.loads(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            found[name] = value
    return found


def _write(name: str, data: bytes) -> None:
    try:
        Path(name).write_bytes(data)
    except OSError as error:
        raise InvalidArgumentError(f"{name}: {error.strerror}") from error


def show_blame(error: SampanError) -> None:
    """Show what a failed build's error is about, before the error itself."""
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
