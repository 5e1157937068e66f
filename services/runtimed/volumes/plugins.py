"""Volume plugins: programs that keep volumes of their own, found and spoken to as ``sampan.plugins`` says.

A plugin is asked what it is when it is first used. Every call has a deadline, and what is wrong names the plugin.

Reference: docs.docker.com/engine/extend/plugins_volume.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.options.mounts import VOLUME_NAME
from sampan.errors import NotFoundError, RemoteError
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.plugins import Address, Places, PluginChannel

_VOLUMES: Final = "VolumeDriver"
_MAX_BYTES: Final = 4 << 20
_MAX_TEXT: Final = 500  # of a plugin's error that is passed on


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a plugin may take."""

    answer_s: float = 30.0  # to make, remove, mount or unmount a volume
    look_s: float = 5.0  # to say what it has


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
        try:
            async with asyncio.timeout(deadline_s):
                channel = await PluginChannel.open(self._address)
                try:
                    status, text = await channel.post(method, sent, _MAX_BYTES)
                finally:
                    await channel.close()
        except TimeoutError:
            raise RemoteError(f"volume plugin {self.name}: {method} has not answered within {deadline_s:g} s") from None
        except (OSError, ValueError) as error:
            raise RemoteError(f"volume plugin {self.name}: {method}: {str(error)[:_MAX_TEXT]}") from error
        try:
            decoded = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            decoded = None
        if isinstance(decoded, dict) and decoded.get("Err"):
            why = str(decoded["Err"])[:_MAX_TEXT]
            raise _PluginError(why if status == 200 else f"{method}: {why}")
        if status != 200:
            raise _PluginError(f"{method}: volume plugin {self.name} answers {status}")
        if not isinstance(decoded, dict):
            raise RemoteError(f"volume plugin {self.name}: {method} answers with something that is no JSON object")
        return decoded


class _PluginError(RemoteError):
    """What the plugin itself says is wrong."""


def _volume(row: JsonObject) -> PluginVolume:
    place = row.get("Mountpoint")
    return PluginVolume(str(row["Name"]), place if isinstance(place, str) else "")


class Plugins:
    """All plugins of the host. One that is there is asked what it is once, and again if its address changes."""

    def __init__(
        self, sockets: Path | None = None, specs: Sequence[Path] = (), deadlines: Deadlines | None = None
    ) -> None:
        """``sockets`` and ``specs`` are the directories to look in."""
        self._places = Places(sockets, tuple(specs))
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
        address = await asyncio.to_thread(self._find, name)
        found = await self._activated(address) if address is not None else None
        if found is None:
            raise NotFoundError(missing)
        return found

    def _find(self, name: str) -> Address | None:
        return next((one for one in self._places.all() if one.name == name), None)

    async def all(self) -> list[Plugin]:
        """Return all that keep volumes, by name. One that does not answer is left out, and named in the log."""
        addresses = await asyncio.to_thread(lambda: {one.name: one for one in reversed(list(self._places.all()))})
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
