"""Volume plugins: programs that keep volumes of their own, spoken to by Docker's plugin protocol.

A plugin is found by a file: its socket, ``<sockets>/<name>.sock`` or ``<sockets>/<name>/<name>.sock``, or a file that
says where it listens, ``<name>.spec`` with an address or ``<name>.json`` with an address and certificates. It is asked
what it is when it is first used, and whatever it answers is a stranger's: every call has a deadline, every answer a
size, and what is wrong names the plugin.

Reference: docs.docker.com/engine/extend/plugin_api and docs.docker.com/engine/extend/plugins_volume.
"""

import asyncio
import importlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from sampan.docker.options.mounts import VOLUME_NAME
from sampan.errors import NotFoundError, RemoteError
from sampan.json_types import JsonObject
from sampan.log import log

if TYPE_CHECKING:
    import aiohttp

_MEDIA: Final = "application/vnd.docker.plugins.v1.2+json"
_VOLUMES: Final = "VolumeDriver"
_MAX_BYTES: Final = 4 << 20
_MAX_TEXT: Final = 500  # of a plugin's error that is passed on


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a plugin may take."""

    answer_s: float = 30.0  # to make, remove, mount or unmount a volume
    look_s: float = 5.0  # to say what it has


@dataclass(frozen=True, slots=True)
class Address:
    """Where a plugin listens: a socket, or a URL."""

    name: str
    socket: str = ""
    url: str = ""
    tls: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PluginVolume:
    """A volume as its plugin tells of it."""

    name: str
    mountpoint: str = ""


class Plugin:
    """One plugin. Every method raises RemoteError, which names it: it fails, does not answer, or answers nonsense."""

    def __init__(self, address: Address, deadlines: Deadlines) -> None:
        self._address = address
        self._deadlines = deadlines
        self._scope = ""

    @property
    def name(self) -> str:
        """What volumes call their driver."""
        return self._address.name

    @staticmethod
    def said(error: RemoteError) -> bool:
        """Whether ``error`` is what the plugin itself said: it did nothing. After any other, nobody knows."""
        return isinstance(error, _PluginError)

    async def activate(self) -> bool:
        """Say whether it keeps volumes."""
        answer = await self._call("Plugin.Activate", {}, self._deadlines.look_s)
        kinds = answer.get("Implements")
        return isinstance(kinds, list) and _VOLUMES in kinds

    async def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make a volume."""
        await self._call(f"{_VOLUMES}.Create", {"Name": name, "Opts": dict(options)}, self._deadlines.answer_s)

    async def remove(self, name: str) -> None:
        """Remove a volume."""
        await self._call(f"{_VOLUMES}.Remove", {"Name": name}, self._deadlines.answer_s)

    async def mount(self, name: str, id: str) -> Path:
        """Have it mounted for whoever ``id`` stands for; return where it is."""
        method = f"{_VOLUMES}.Mount"
        answer = await self._call(method, {"Name": name, "ID": id}, self._deadlines.answer_s)
        place = answer.get("Mountpoint")
        if not isinstance(place, str) or not place.startswith("/") or "\0" in place:
            told = repr(place)[:_MAX_TEXT]
            raise RemoteError(f"volume plugin {self.name}: {method} answers with no absolute path: {told}")
        if not await asyncio.to_thread(Path(place).is_dir):
            raise RemoteError(f"volume plugin {self.name}: {method} answers with {place}, which is no directory")
        return Path(place)

    async def unmount(self, name: str, id: str) -> None:
        """Undo ``mount``."""
        await self._call(f"{_VOLUMES}.Unmount", {"Name": name, "ID": id}, self._deadlines.answer_s)

    async def get(self, name: str) -> PluginVolume | None:
        """Return a volume, or None; plugins have no other way to say so than any error."""
        try:
            answer = await self._call(f"{_VOLUMES}.Get", {"Name": name}, self._deadlines.look_s)
        except _PluginError:
            return None
        found = answer.get("Volume")
        return _volume(found) if isinstance(found, dict) and found.get("Name") == name else None

    async def list(self) -> list[PluginVolume]:
        """Return all volumes that it has, those that nobody made here as well."""
        answer = await self._call(f"{_VOLUMES}.List", {}, self._deadlines.look_s)
        rows = answer.get("Volumes") or []
        if not isinstance(rows, list):
            raise RemoteError(f"volume plugin {self.name}: {_VOLUMES}.List answers with no list")
        return [_volume(row) for row in rows if isinstance(row, dict) and isinstance(row.get("Name"), str)]

    async def scope(self) -> str:
        """Return ``local`` or ``global``; asked once, and ``local`` for a plugin that does not know the question."""
        if not self._scope:
            try:
                answer = await self._call(f"{_VOLUMES}.Capabilities", {}, self._deadlines.look_s)
            except RemoteError:
                answer = {}
            known = answer.get("Capabilities")
            said = known.get("Scope") if isinstance(known, dict) else ""
            self._scope = "global" if said == "global" else "local"
        return self._scope

    async def _call(self, method: str, sent: JsonObject, deadline_s: float) -> JsonObject:
        client = await asyncio.to_thread(importlib.import_module, "aiohttp")  # engines without plugins need none of it
        try:
            async with asyncio.timeout(deadline_s), self._session(client) as session:
                url = f"{self._address.url or 'http://plugin'}/{method}"
                async with session.post(url, data=json.dumps(sent), headers={"Accept": _MEDIA}) as answer:
                    status, text = answer.status, await _body(answer)
        except TimeoutError:
            raise RemoteError(f"volume plugin {self.name}: {method} has not answered within {deadline_s:g} s") from None
        except (OSError, ValueError) as error:  # aiohttp's own are of both kinds
            raise RemoteError(f"volume plugin {self.name}: {method}: {str(error)[:_MAX_TEXT]}") from error
        try:
            decoded = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            decoded = None
        if isinstance(decoded, dict) and decoded.get("Err"):
            raise _PluginError(f"{method}: {str(decoded['Err'])[:_MAX_TEXT]}")
        if status != 200:
            raise _PluginError(f"{method}: volume plugin {self.name} answers {status}")
        if not isinstance(decoded, dict):
            raise RemoteError(f"volume plugin {self.name}: {method} answers with something that is no JSON object")
        return decoded

    @asynccontextmanager
    async def _session(self, client: ModuleType) -> AsyncIterator["aiohttp.ClientSession"]:
        if self._address.socket:
            connector = client.UnixConnector(self._address.socket)
        else:
            connector = client.TCPConnector(ssl=await asyncio.to_thread(_ssl, self._address.tls))
        errors = client.ClientError
        async with client.ClientSession(connector=connector, auto_decompress=False) as session:
            try:
                yield session
            except errors as error:
                raise OSError(str(error) or type(error).__name__) from error


class _PluginError(RemoteError):
    """What the plugin itself says is wrong."""


async def _body(answer: "aiohttp.ClientResponse") -> bytes:
    text = b""
    async for piece in answer.content.iter_any():
        text += piece
        if len(text) > _MAX_BYTES:
            raise ValueError(f"the answer is longer than {_MAX_BYTES} bytes")
    return text


def _volume(row: JsonObject) -> PluginVolume:
    place = row.get("Mountpoint")
    return PluginVolume(str(row["Name"]), place if isinstance(place, str) else "")


def _ssl(tls: Mapping[str, str | bool]) -> ssl.SSLContext | bool:
    if not tls:
        return True
    context = ssl.create_default_context(cafile=str(tls.get("CAFile") or "") or None)
    if tls.get("CertFile"):
        context.load_cert_chain(str(tls["CertFile"]), str(tls.get("KeyFile") or "") or None)
    if tls.get("InsecureSkipVerify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Plugins:
    """All plugins of the host. One that is there is asked what it is once, and again if its address changes."""

    def __init__(
        self, sockets: Path | None = None, specs: Sequence[Path] = (), deadlines: Deadlines | None = None
    ) -> None:
        """``sockets`` and ``specs`` are the directories to look in."""
        self._sockets = sockets
        self._specs = tuple(specs)
        self._deadlines = deadlines or Deadlines()
        self._known: dict[str, tuple[Address, Plugin]] = {}  # those that keep volumes
        self._others: dict[str, Address] = {}  # those that do not

    async def find(self, name: str) -> Plugin:
        """Return the plugin of that name.

        Raises:
            NotFoundError: there is none that keeps volumes; in Docker's words.
            RemoteError: it does not say what it is.
        """
        missing = f'error looking up volume plugin {name}: plugin "{name}" not found'
        if not VOLUME_NAME.fullmatch(name):
            raise NotFoundError(missing)
        address = await asyncio.to_thread(lambda: next((one for one in self._addresses() if one.name == name), None))
        found = await self._activated(address) if address is not None else None
        if found is None:
            raise NotFoundError(missing)
        return found

    async def all(self) -> list[Plugin]:
        """Return all that keep volumes, by name. One that does not answer is left out, and named in the log."""
        addresses = await asyncio.to_thread(lambda: {one.name: one for one in reversed(list(self._addresses()))})
        asked = [self._activated(address) for _, address in sorted(addresses.items())]
        found: list[Plugin] = []
        for each in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(each, Plugin):
                found.append(each)
            elif isinstance(each, RemoteError):
                log.warning("volume plugin left out", error=str(each))
            elif isinstance(each, BaseException):
                raise each
        return found

    async def _activated(self, address: Address) -> Plugin | None:
        if address.name in self._known and self._known[address.name][0] == address:
            return self._known[address.name][1]
        if self._others.get(address.name) == address:
            return None
        plugin = Plugin(address, self._deadlines)
        if await plugin.activate():
            self._known[address.name] = address, plugin
            return plugin
        self._others[address.name] = address
        return None

    def _addresses(self) -> Iterator[Address]:
        """Yield where plugins listen; of one name the first counts. What is wrong with a file is logged."""
        for path in _children(self._sockets) if self._sockets else ():
            socket = path / f"{path.name}.sock" if path.is_dir() else path
            if socket.suffix == ".sock" and socket.is_socket():
                yield Address(socket.stem, socket=str(socket))
        for directory in self._specs:
            for path in _children(directory):
                if path.suffix in (".spec", ".json"):
                    try:
                        yield _address(path)
                    except (OSError, ValueError) as error:
                        log.warning("file of a plugin is not understood", path=str(path), error=str(error))


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _address(path: Path) -> Address:
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
