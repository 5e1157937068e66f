"""Contexts: engines by name, where the docker command keeps them, so that both know the same ones.

Each is ``contexts/meta/<SHA-256 of its name>/meta.json`` in Docker's configuration directory, and which one is in use
is ``currentContext`` in ``config.json``. What TLS is spoken with is in ``contexts/tls/<SHA-256>/docker``. The
endpoint is an address of the engine's Docker API, as ``remote.hosts`` reads it; a data root may be told beside one of
this machine.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sampan.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, NotFoundError
from sampan.json_types import JsonObject
from sampan_cli.remote.hosts import Host, TlsMaterial, parse_host

DEFAULT: Final = "default"
TLS_FILES: Final = ("ca", "cert", "key")
_TLS: Final = "tls/docker"  # where they are in an exported context
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_DATA_ROOT: Final = "SampanDataRoot"
_MOST_BYTES: Final = 1 << 20  # of an exported context


@dataclass(frozen=True, slots=True)
class Context:
    """An engine that has a name."""

    name: str
    host: str  # "unix:///run/sampan/docker.sock"
    description: str = ""
    data_root: str = ""
    skip_tls_verify: bool = False
    tls: Mapping[str, bytes] = field(default_factory=dict)  # "ca", "cert" and "key", as far as there are any

    def document(self) -> JsonObject:
        """Return it as the docker command writes it."""
        metadata = {"Description": self.description, _DATA_ROOT: self.data_root}
        endpoint = {"Host": self.host, "SkipTLSVerify": self.skip_tls_verify}
        return {
            "Name": self.name,
            "Metadata": {key: value for key, value in metadata.items() if value},
            "Endpoints": {"docker": endpoint},
        }


class ContextStore:
    """The contexts of one user."""

    def __init__(self, directory: Path) -> None:
        """Use Docker's configuration directory ``directory``."""
        self._directory = directory
        self._config = directory / "config.json"

    def current(self, environ: Mapping[str, str]) -> str:
        """Return the name of the context in use."""
        return environ.get("DOCKER_CONTEXT") or str(self._settings().get("currentContext") or DEFAULT)

    def use(self, name: str) -> None:
        """Use a context from now on. NotFoundError if there is none."""
        settings = {key: value for key, value in self._settings().items() if key != "currentContext"}
        if name != DEFAULT:
            settings["currentContext"] = self.get(name).name
        self._replace(self._config, settings)

    def reached(self, context: Context) -> Host:
        """Return where its engine is. Raises InvalidArgumentError for what is no address of one."""
        material = None
        if context.tls or context.skip_tls_verify:
            files = {name: str(self._tls_file(context.name, name)) for name in context.tls}
            material = TlsMaterial(**files, verify=not context.skip_tls_verify)
        return parse_host(context.host, material)

    def get(self, name: str) -> Context:
        """Return a context.

        Raises:
            NotFoundError: there is none.
            InvalidArgumentError: its file cannot be read.
        """
        file = self._file(name)
        try:
            return self._with_tls(_context(json.loads(file.read_text())))
        except FileNotFoundError:
            raise NotFoundError(f'context "{name}": context not found') from None
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(f'context "{name}" cannot be read from {file}: {error}') from error

    def all(self) -> list[Context]:
        """Return the contexts by name, but for the default one, which is in no file. Errors are those of ``get``."""
        found = []
        for file in self._directory.glob("contexts/meta/*/meta.json"):
            try:
                found.append(self._with_tls(_context(json.loads(file.read_text()))))
            except (ValueError, TypeError, AttributeError) as error:
                raise InvalidArgumentError(f"a context cannot be read from {file}: {error}") from error
        return sorted(found, key=lambda context: context.name)

    def add(self, context: Context) -> None:
        """Keep a new context.

        Raises:
            InvalidArgumentError: it cannot be called so.
            AlreadyExistsError: another one is.
        """
        check_name(context.name)
        if self._file(context.name).exists():
            raise AlreadyExistsError(f'context "{context.name}" already exists')
        self.put(context)

    def put(self, context: Context) -> None:
        """Write a context in place of the one of its name."""
        shutil.rmtree(self._tls_file(context.name, "ca").parent, ignore_errors=True)
        for name, content in context.tls.items():
            self._write(self._tls_file(context.name, name), content)
        self._replace(self._file(context.name), context.document())

    def remove(self, name: str, *, force: bool, current: str) -> None:
        """Forget a context.

        Raises:
            InvalidArgumentError: it is the default one.
            ConflictError: it is in use, and ``force`` is not said.
            NotFoundError: there is none; not with ``force``.
        """
        if name == DEFAULT:
            raise InvalidArgumentError('context "default" cannot be removed')
        if name == current and not force:
            raise ConflictError(f'context "{name}" is in use, set -f flag to force remove')
        if not self._file(name).exists() and not force:
            raise NotFoundError(f'context "{name}": context not found')
        shutil.rmtree(self._file(name).parent, ignore_errors=True)
        shutil.rmtree(self._tls_file(name, "ca").parent.parent, ignore_errors=True)
        if name == str(self._settings().get("currentContext")):
            self.use(DEFAULT)

    def _file(self, name: str) -> Path:
        return self._directory / "contexts/meta" / _digest(name) / "meta.json"

    def _tls_file(self, name: str, which: str) -> Path:
        return self._directory / "contexts/tls" / _digest(name) / "docker" / f"{which}.pem"

    def _with_tls(self, context: Context) -> Context:
        found = {}
        for which in TLS_FILES:
            with suppress(FileNotFoundError):
                found[which] = self._tls_file(context.name, which).read_bytes()
        return replace(context, tls=found)

    def _settings(self) -> JsonObject:
        try:
            settings = json.loads(self._config.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise InvalidArgumentError(f"{self._config} cannot be read: {error}") from error
        return settings if isinstance(settings, dict) else {}

    def _replace(self, file: Path, document: JsonObject) -> None:
        self._write(file, json.dumps(document, indent="\t").encode())

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
            new.write(content)
        temporary.replace(file)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def check_name(name: str) -> None:
    """Raise InvalidArgumentError for what no context can be called."""
    if name == DEFAULT:
        raise InvalidArgumentError('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f'context name "{name}" is invalid, names are validated against regexp "^{_NAME.pattern}$"'
        )


def packed(context: Context) -> bytes:
    """Return a context as ``docker context export`` writes it: a tar of its files."""
    import tarfile  # which few commands need

    out = io.BytesIO()
    files = {"meta.json": json.dumps(context.document()).encode()}
    files |= {f"{_TLS}/{which}.pem": content for which, content in context.tls.items()}
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, raw in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(raw), 0o644
            archive.addfile(entry, io.BytesIO(raw))
    return out.getvalue()


def unpacked(raw: bytes, name: str) -> Context:
    """Return the context of an export under the name ``name``. Raises InvalidArgumentError."""
    import tarfile

    def read(archive: tarfile.TarFile, file: str) -> bytes | None:
        if file not in archive.getnames():
            return None
        member = archive.extractfile(file)
        return None if member is None else member.read()

    try:
        with tarfile.open(fileobj=io.BytesIO(raw[:_MOST_BYTES])) as archive:
            document = json.loads(read(archive, "meta.json") or b"")
            tls = {which: read(archive, f"{_TLS}/{which}.pem") for which in TLS_FILES}
        context = _context(document | {"Name": name})
    except (tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"this is no exported context: {error}") from error
    return replace(context, tls={which: content for which, content in tls.items() if content is not None})


def _context(document: JsonObject) -> Context:
    metadata, endpoint = document.get("Metadata") or {}, (document.get("Endpoints") or {}).get("docker") or {}
    return Context(
        name=str(document["Name"]),
        host=str(endpoint.get("Host") or ""),
        description=str(metadata.get("Description") or ""),
        data_root=str(metadata.get(_DATA_ROOT) or ""),
        skip_tls_verify=bool(endpoint.get("SkipTLSVerify")),
    )
