"""Values of ``sampan build``'s flags, in the forms that ``docker buildx build`` takes.

Reference: the docker command's reference, "docker buildx build".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.build.request import CacheOption, Export
from sampan.docker.booleans import parse_bool
from sampan.docker.comma_fields import comma_fields
from sampan.errors import InvalidArgumentError, NotFoundError

_MAX_SECRET_BYTES: Final = 500 << 10
_DIRECTORY_TYPES: Final = frozenset(("local",))
_FILE_TYPES: Final = frozenset(("tar", "oci", "docker"))
_OUTPUT_TYPES: Final = _DIRECTORY_TYPES | _FILE_TYPES | {"image", "registry"}
_REMOTE: Final = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is: a file, or an environment variable."""

    id: str
    path: Path | None = None
    variable: str = ""

    def check(self) -> None:
        """Look at a file before the build begins, which would go on without it; blocks for a moment.

        Raises:
            InvalidArgumentError: it is not there, or too large.
        """
        if self.path is None:
            return
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise InvalidArgumentError(f"failed to stat {self.path}: {(error.strerror or '').lower()}") from error
        if size > _MAX_SECRET_BYTES:
            raise self._too_big()

    def _too_big(self) -> InvalidArgumentError:
        return InvalidArgumentError(f"secret {self.id} too big. max size {_MAX_SECRET_BYTES >> 10}KiB")

    def read(self, environ: Mapping[str, str]) -> bytes:
        """Return the secret.

        Raises:
            NotFoundError: it is not there.
            InvalidArgumentError: it is too large, or cannot be read.
        """
        if self.variable:
            if self.variable not in environ:
                raise NotFoundError(f"secret {self.id}: environment variable {self.variable} is not set")
            return environ[self.variable].encode()
        assert self.path is not None
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_SECRET_BYTES + 1)
        except FileNotFoundError:
            raise NotFoundError(f"secret {self.id}: {self.path}: no such file or directory") from None
        except OSError as error:
            raise InvalidArgumentError(f"secret {self.id}: {self.path}: {error.strerror}") from error
        if len(data) > _MAX_SECRET_BYTES:
            raise self._too_big()
        return data


@dataclass(frozen=True, slots=True)
class Output:
    """One ``--output``: what is exported, and where it goes on this side."""

    export: Export
    path: Path | None = None  # a directory or a file; None: nowhere here, or stdout
    to_stdout: bool = False


def parse_secret(text: str, environ: Mapping[str, str]) -> SecretSource:
    """Parse ``id=x,src=path``, ``id=x,env=NAME`` or ``id=x``: of the variable, or else the file, of that name.

    Raises:
        InvalidArgumentError: anything else.
    """
    fields = _fields(text, "secret")
    kind = fields.pop("type", "")
    if kind not in ("", "file", "env"):
        raise InvalidArgumentError(f"unsupported secret type {kind!r}")
    name = fields.pop("id", "")
    source = fields.pop("src", fields.pop("source", ""))
    variable = fields.pop("env", "")
    if fields:
        raise InvalidArgumentError(f"unexpected key '{next(iter(fields))}' in '{text}'")
    if not name:
        raise InvalidArgumentError(f"secret {text!r} has no id")
    if kind == "env" and not variable:
        variable, source = source or name, ""
    if not (source or variable) and kind != "file" and name in environ:
        variable = name
    if variable:
        return SecretSource(name, variable=variable)
    return SecretSource(name, Path(source or name))


def parse_ssh(text: str, environ: Mapping[str, str]) -> tuple[str, Path]:
    """Parse ``default`` or ``id=socket``; return the ID and the agent's socket.

    Raises:
        InvalidArgumentError: a key instead of an agent, or no agent.
    """
    name, equals, paths = text.partition("=")
    if not name:
        raise InvalidArgumentError(f"invalid ssh agent {text!r}: expected default or id=socket")
    if not equals:
        agent = environ.get("SSH_AUTH_SOCK", "")
        if not agent:
            raise InvalidArgumentError("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
        return name, Path(agent)
    path = Path(paths)
    if not path.is_socket():
        raise InvalidArgumentError(
            f"ssh {text!r}: {paths} is no agent's socket: load keys into an agent (ssh-add) and name that"
        )
    return name, path


def parse_output(text: str) -> Output:
    """Parse ``type=local,dest=out``; ``-`` is a tar on stdout, any other word a directory.

    Raises:
        InvalidArgumentError: an unknown type, or no destination where there must be one.
    """
    if "=" not in text:
        if text == "-":
            return Output(Export("tar"), to_stdout=True)
        return Output(Export("local"), Path(text))
    fields = _fields(text, "output")
    kind = fields.pop("type", "")
    if not kind:
        raise InvalidArgumentError(f"type is required for output {text!r}")
    if kind not in _OUTPUT_TYPES:
        raise InvalidArgumentError(f"unknown output type {kind!r}: use {', '.join(sorted(_OUTPUT_TYPES))}")
    destination = fields.pop("dest", "")
    if kind == "registry":
        kind, fields["push"] = "image", fields.get("push", "true")
    if kind in _DIRECTORY_TYPES:
        if not destination:
            raise InvalidArgumentError(f"dest is required for {kind} output")
        if destination == "-":
            raise InvalidArgumentError("dest cannot be stdout for local output")
        return Output(Export(kind, fields), Path(destination))
    if kind in ("tar", "oci"):
        if not destination:
            raise InvalidArgumentError(f"dest is required for {kind} output")
        unpacked = kind == "oci" and not parse_bool(fields.get("tar", "true"), "tar")
        if unpacked:
            raise InvalidArgumentError(
                "tar=false is not supported by this command: leave it out, and unpack the archive"
            )
        if destination == "-":
            return Output(Export(kind, fields), to_stdout=True)
        return Output(Export(kind, fields), Path(destination))
    if kind == "docker" and destination:
        if destination == "-":
            return Output(Export(kind, fields), to_stdout=True)
        return Output(Export(kind, fields), Path(destination))
    return Output(Export("image", fields))


def parse_cache(text: str) -> CacheOption:
    """Parse ``type=registry,ref=x`` or an image's name. InvalidArgumentError: no type."""
    if "=" not in text:
        return CacheOption("registry", {"ref": text})
    fields = _fields(text, "cache")
    kind = fields.pop("type", "")
    if not kind:
        raise InvalidArgumentError(f"type is required for cache {text!r}")
    return CacheOption(kind, fields)


def parse_context(text: str) -> tuple[str, str]:
    """Parse ``name=source`` of ``--build-context``; return the name and the source.

    Raises:
        InvalidArgumentError: no name, or no source.
    """
    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise InvalidArgumentError(f"invalid context value: {text}, expected key=value")
    return name, source


def is_remote(context: str) -> bool:
    """Say whether a context is fetched by the builder: a URL or a repository."""
    return context.startswith(_REMOTE) and not Path(context).is_dir()


def build_arguments(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``--build-arg``; a name alone takes its value from ``environ``, and is left out if it has none there.

    Raises:
        InvalidArgumentError: no name.
    """
    found: dict[str, str] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not name:
            raise InvalidArgumentError(f"invalid build argument {entry!r}: empty name")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


def attestations(given: Sequence[str], provenance: str | None, sbom: str | None) -> dict[str, str]:
    """Return ``--attest type=provenance,mode=max`` and its short forms as attributes.

    Raises:
        InvalidArgumentError: an unknown type, or the same one twice.
    """
    found: dict[str, str] = {}
    texts = list(given)
    for kind, text in (("provenance", provenance), ("sbom", sbom)):
        if text is not None:
            texts.append(f"type={kind},{_short(text)}")
    for text in texts:
        fields = _fields(text, "attest")
        kind = fields.pop("type", "")
        if kind not in ("provenance", "sbom"):
            raise InvalidArgumentError(f"attestation type {kind!r} is not known: use provenance or sbom")
        if f"attest:{kind}" in found:
            raise InvalidArgumentError(f"duplicate attestation field {kind}")
        found[f"attest:{kind}"] = ",".join(f"{name}={value}" for name, value in fields.items())
    return found


def _short(text: str) -> str:
    if "=" in text:
        return text
    try:
        return f"disabled={str(not parse_bool(text, 'attestation')).lower()}"
    except InvalidArgumentError:
        return f"mode={text}"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The flags of ``build``, as given."""

    context: str
    add_host: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    attest: tuple[str, ...] = ()
    build_arg: tuple[str, ...] = ()
    build_context: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    call: str = "build"
    cgroup_parent: str = ""
    check: bool = False
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    file: str = ""
    iidfile: str = ""
    label: tuple[str, ...] = ()
    load: bool = False
    memory: str = ""
    memory_swap: str = ""
    metadata_file: str = ""
    network: str = "default"
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    progress: str = "auto"
    provenance: str | None = None
    pull: bool = False
    push: bool = False
    quiet: bool = False
    sbom: str | None = None
    secret: tuple[str, ...] = ()
    shm_size: str = ""
    ssh: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    target: str = ""
    ulimit: tuple[str, ...] = field(default=())


def _fields(text: str, what: str) -> dict[str, str]:
    try:
        row = comma_fields(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid {what} {text!r}: {error}") from error
    found = {}
    for part in row:
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidArgumentError(f"invalid value {part!r} of {what} {text!r}: expected key=value")
        found[name.strip().lower()] = value
    return found
