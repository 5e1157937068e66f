"""Docker's plugins: found by a file, and spoken to over HTTP.

The file is a socket, ``<sockets>/<name>.sock`` or ``<sockets>/<name>/<name>.sock``, or says where the plugin listens:
``<name>.spec`` with an address, ``<name>.json`` with an address and certificates. Whatever a plugin answers is a
stranger's: every answer has a size, and deadlines are the caller's.

Reference: docs.docker.com/engine/extend/plugin_api.
"""

import asyncio
import importlib
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sampan.json_types import JsonObject
from sampan.log import log

if TYPE_CHECKING:
    import aiohttp

SOCKETS: Final = Path("/run/docker/plugins")
SPECS: Final = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))

_MEDIA_TYPE: Final = "application/vnd.docker.plugins.v1.2+json"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a plugin listens: a socket, or a URL."""

    name: str
    socket: str = ""
    url: str = ""
    tls: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """The directories that plugins are found in. All methods block."""

    sockets: Path | None = SOCKETS
    specs: tuple[Path, ...] = SPECS

    def find(self, name: str) -> Address | None:
        """Return where the plugin ``name`` listens, or None. ValueError, OSError: its file cannot be understood."""
        for path in self._sockets():
            if path.stem == name:
                return Address(name, socket=str(path))
        for path in self._files():
            if path.stem == name:
                return _read(path)
        return None

    def all(self) -> Iterator[Address]:
        """Yield where plugins listen; of one name the first counts. What is wrong with a file is logged."""
        for path in self._sockets():
            yield Address(path.stem, socket=str(path))
        for path in self._files():
            try:
                yield _read(path)
            except (OSError, ValueError) as error:
                log.warning("file of a plugin is not understood", path=str(path), error=str(error))

    def _sockets(self) -> Iterator[Path]:
        for path in _children(self.sockets) if self.sockets else ():
            socket = path / f"{path.name}.sock" if path.is_dir() else path
            if socket.suffix == ".sock" and socket.is_socket():
                yield socket

    def _files(self) -> Iterator[Path]:
        for directory in self.specs:
            for suffix in (".spec", ".json"):
                yield from (path for path in _children(directory) if path.suffix == suffix)


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _read(path: Path) -> Address:
    """Read a ``.spec`` or ``.json`` file. Raises ValueError, OSError."""
    text = path.read_text()
    tls: Mapping[str, str | bool] = {}
    url = text.strip()
    if path.suffix == ".json":
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        url, tls = str(document.get("Addr", "")), document.get("TLSConfig") or {}
        if not isinstance(tls, dict):
            raise ValueError("TLSConfig is not an object")
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return Address(path.stem, socket=rest)
    if not separator or scheme not in ("tcp", "http", "https") or not rest:
        raise ValueError(f"{url!r} is no address: unix:///path, tcp://host:port, http:// or https://")
    if scheme == "tcp":
        scheme = "https" if tls else "http"
    return Address(path.stem, url=f"{scheme}://{rest.rstrip('/')}", tls=tls)


class PluginChannel:
    """Connections to one plugin. Close it when done with it."""

    def __init__(self, session: "aiohttp.ClientSession", url: str) -> None:
        """Use ``open``."""
        self._session = session
        self._url = url

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Make ready to speak with a plugin; nothing is sent. Raises OSError: a certificate cannot be read."""
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")  # without plugins nobody needs it
        if address.socket:
            connector = aiohttp.UnixConnector(address.socket)
        else:
            connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(_ssl, address.tls))
        return cls(aiohttp.ClientSession(connector=connector, auto_decompress=False), address.url or "http://plugin")

    async def post(self, method: str, sent: JsonObject, max_bytes: int) -> tuple[int, bytes]:
        """Call a method and return status and body.

        Raises:
            OSError: nobody listens, or the connection breaks.
            ValueError: the answer is longer than ``max_bytes``, or is no HTTP.
        """
        errors = importlib.import_module("aiohttp").ClientError
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": "application/json"}
        data = json.dumps(sent).encode(errors="replace")
        url = f"{self._url}/{method}"
        try:
            async with self._session.post(url, data=data, headers=headers, allow_redirects=False) as answer:
                text = b""
                async for piece in answer.content.iter_any():
                    text += piece
                    if len(text) > max_bytes:
                        raise ValueError(f"the answer is longer than {max_bytes} bytes")
                return answer.status, text
        except errors as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()


def _ssl(tls: Mapping[str, str | bool]) -> ssl.SSLContext | bool:
    if not tls:
        return True
    context = ssl.create_default_context(cafile=str(tls.get("CAFile") or "") or None)
    if tls.get("CertFile"):
        context.load_cert_chain(str(tls["CertFile"]), str(tls.get("KeyFile") or "") or None)
    if tls.get("InsecureSkipVerify") is True:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
