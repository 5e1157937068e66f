"""Contexts: engines by name, where the docker command keeps them, so that both know the same ones.

Each is ``contexts/meta/<SHA-256 of its name>/meta.json`` in Docker's configuration directory, and which one is in use
is ``currentContext`` in ``config.json``. ``sampan`` reaches an engine by the sockets in its run root, so the endpoint
of a context that it can use is ``unix://<run root>/docker.sock``; a data root may be told beside it.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, NotFoundError
from sampan.json_types import JsonObject
from sampan.layout import Layout

DEFAULT: Final = "default"
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

    def layout(self, data_root: Path) -> Layout:
        """Return where its engine is; ``data_root`` holds if the context tells of none.

        Raises:
            InvalidArgumentError: it is not reached by sockets of this machine.
        """
        return Layout(Path(self.data_root) if self.data_root else data_root, run_root_of(self.host))

    def document(self) -> JsonObject:
        """Return it as the docker command writes it."""
        metadata = {"Description": self.description, _DATA_ROOT: self.data_root}
        endpoint = {"Host": self.host, "SkipTLSVerify": False}
        return {
            "Name": self.name,
            "Metadata": {key: value for key, value in metadata.items() if value},
            "Endpoints": {"docker": endpoint},
        }


def run_root_of(host: str) -> Path:
    """Return the run root of the engine whose Docker API is at ``host``.

    Raises:
        InvalidArgumentError: it is no socket of this machine.
    """
    scheme, _, path = host.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise InvalidArgumentError(
            f"{host!r} is no engine that sampan reaches: it talks to the sockets in an engine's run root, as "
            "unix:///run/sampan/docker.sock; the docker command reaches others"
        )
    return Path(path).parent


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

    def get(self, name: str) -> Context:
        """Return a context.

        Raises:
            NotFoundError: there is none.
            InvalidArgumentError: its file cannot be read.
        """
        file = self._file(name)
        try:
            return _context(json.loads(file.read_text()))
        except FileNotFoundError:
            raise NotFoundError(f'context "{name}": context not found') from None
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(f'context "{name}" cannot be read from {file}: {error}') from error

    def all(self) -> list[Context]:
        """Return the contexts by name, but for the default one, which is in no file. Errors are those of ``get``."""
        found = []
        for file in self._directory.glob("contexts/meta/*/meta.json"):
            try:
                found.append(_context(json.loads(file.read_text())))
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
        if name == str(self._settings().get("currentContext")):
            self.use(DEFAULT)

    def _file(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
        return self._directory / "contexts/meta" / digest / "meta.json"

    def _settings(self) -> JsonObject:
        try:
            settings = json.loads(self._config.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise InvalidArgumentError(f"{self._config} cannot be read: {error}") from error
        return settings if isinstance(settings, dict) else {}

    @staticmethod
    def _replace(file: Path, document: JsonObject) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.write(json.dumps(document, indent="\t"))
        temporary.replace(file)


def check_name(name: str) -> None:
    """Raise InvalidArgumentError for what no context can be called."""
    if name == DEFAULT:
        raise InvalidArgumentError('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f'context name "{name}" is invalid, names are validated against regexp "^{_NAME.pattern}$"'
        )


def packed(context: Context) -> bytes:
    """Return a context as ``docker context export`` writes it: a tar of its file."""
    import tarfile  # which few commands need

    raw = json.dumps(context.document()).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("meta.json")
        entry.size, entry.mode = len(raw), 0o644
        archive.addfile(entry, io.BytesIO(raw))
    return out.getvalue()


def unpacked(raw: bytes, name: str) -> Context:
    """Return the context of an export under the name ``name``. Raises InvalidArgumentError."""
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(raw[:_MOST_BYTES])) as archive:
            member = archive.extractfile("meta.json")
            document = json.loads(member.read()) if member is not None else {}
        return _context(document | {"Name": name})
    except (tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"this is no exported context: {error}") from error


def _context(document: JsonObject) -> Context:
    metadata, endpoint = document.get("Metadata") or {}, (document.get("Endpoints") or {}).get("docker") or {}
    return Context(
        name=str(document["Name"]),
        host=str(endpoint.get("Host") or ""),
        description=str(metadata.get("Description") or ""),
        data_root=str(metadata.get(_DATA_ROOT) or ""),
    )
