"""Volumes that plugins keep, as far as the records here know them: made, shown, mounted for containers, removed.

A plugin is told to mount once for each mount of a container, under an ID of that mount's own, and once to unmount. That
it was told is written down first: whatever is killed, the unmount follows, and nothing is unmounted twice.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from runtimed.volumes.plugins import Plugin, Plugins
from runtimed.volumes.store import VolumeStore
from sampan.errors import NotFoundError, RemoteError, SampanError, StartError
from sampan.log import log
from sampan.resource.container import Container, MountPoint
from sampan.resource.volume import LOCAL, Volume

_SINCE: datetime = datetime.fromtimestamp(0, UTC)  # what nobody made here has no time


class PluggedVolumes:
    """Calls of plugins, and what is recorded around them. Whoever calls holds the volume's lock where that matters."""

    def __init__(self, plugins: Plugins, store: VolumeStore) -> None:
        self._plugins = plugins
        self._store = store

    async def drivers(self) -> list[str]:
        """Return the names of the plugins that keep volumes."""
        return [plugin.name for plugin in await self._plugins.all()]

    async def make(self, driver: str, name: str, options: dict[str, str]) -> None:
        """Have the plugin make a volume that it has not. Raises NotFoundError: no such plugin; RemoteError."""
        plugin = await self._plugins.find(driver)
        if await plugin.get(name) is None:
            await plugin.create(name, options)

    async def find(self, name: str) -> Volume | None:
        """Return a volume of that name that a plugin has and nobody made here."""
        for plugin in await self._plugins.all():
            try:
                found = await plugin.get(name)
                if found is not None:
                    return Volume(name, _SINCE, plugin.name, mountpoint=found.mountpoint, scope=await plugin.scope())
            except RemoteError as error:
                log.warning("volume plugin left out", error=str(error))
        return None

    async def shown(self, volume: Volume) -> Volume:
        """Return a recorded volume with what its plugin says of it; without, if that cannot be asked."""
        try:
            plugin = await self._plugins.find(volume.driver)
            found = await plugin.get(volume.name)
            scope = await plugin.scope()
        except SampanError as error:
            log.warning("volume plugin cannot be asked", volume=volume.name, error=str(error))
            return volume
        return replace(volume, mountpoint=found.mountpoint if found else "", scope=scope)

    async def all_shown(self, recorded: Iterable[Volume]) -> list[Volume]:
        """Return the recorded volumes of plugins, and those that plugins have beside them."""
        left = {(volume.driver, volume.name): volume for volume in recorded}
        result: list[Volume] = []
        for plugin in await self._plugins.all():
            try:
                found, scope = await plugin.list(), await plugin.scope()
            except RemoteError as error:
                log.warning("volume plugin left out", error=str(error))
                continue
            for one in found:
                volume = left.pop((plugin.name, one.name), None) or Volume(one.name, _SINCE, plugin.name)
                result.append(replace(volume, mountpoint=one.mountpoint, scope=scope))
        return [*result, *left.values()]

    async def mount(self, volume: Volume, container: Container, target: str) -> Path:
        """Have it mounted for one mount of a container. Raises StartError in Docker's words."""
        try:
            plugin = await self._plugins.find(volume.driver)
            await self._store.set_mounted(container.id, target, True)
            return await self._mount(plugin, volume.name, container.id, target)
        except (RemoteError, NotFoundError) as error:
            raise StartError(f"error while mounting volume '{volume.name}': {error}") from error

    async def _mount(self, plugin: Plugin, name: str, container_id: str, target: str) -> Path:
        try:
            return await plugin.mount(name, mount_id(container_id, target))
        except RemoteError as error:
            if plugin.said(error):  # that it is not mounted; otherwise nobody knows
                await self._store.set_mounted(container_id, target, False)
            raise

    async def unmount(self, volume: Volume, container: Container, point: MountPoint) -> None:
        """Have it unmounted if it was mounted for this. A plugin that fails keeps no container from its end."""
        hold = (await self._store.holds(container.id)).get(point.target)
        if hold is None or not hold.mounted:
            return
        try:
            plugin = await self._plugins.find(volume.driver)
            await plugin.unmount(volume.name, mount_id(container.id, point.target))
        except SampanError as error:
            log.warning("volume not unmounted", volume=volume.name, container=container.id, error=str(error))
            return
        await self._store.set_mounted(container.id, point.target, False)

    async def lend(self, volume: Volume, key: str) -> Path:
        """Have it mounted for somebody who is no container. Raises StartError."""
        try:
            plugin = await self._plugins.find(volume.driver)
            return await plugin.mount(volume.name, mount_id(key, ""))
        except (RemoteError, NotFoundError) as error:
            raise StartError(f"error while mounting volume '{volume.name}': {error}") from error

    async def take_back(self, volume: Volume, key: str) -> None:
        """Undo ``lend``; a plugin that fails is named in the log."""
        try:
            plugin = await self._plugins.find(volume.driver)
            await plugin.unmount(volume.name, mount_id(key, ""))
        except SampanError as error:
            log.warning("volume not unmounted", volume=volume.name, error=str(error))

    async def remove(self, volume: Volume, *, force: bool) -> None:
        """Have the plugin remove it; with ``force`` a plugin that is gone is no error. Raises RemoteError."""
        try:
            plugin = await self._plugins.find(volume.driver)
        except NotFoundError:
            if force:
                return
            raise
        try:
            await plugin.remove(volume.name)
        except RemoteError as error:
            raise RemoteError(f"remove {volume.name}: {error}") from error


def is_plugged(volume: Volume) -> bool:
    """Say whether a plugin keeps it."""
    return volume.driver != LOCAL


def mount_id(container_id: str, target: str) -> str:
    """Return what a plugin knows one mount of a container by: the same after any restart."""
    return hashlib.sha256(f"{container_id} {target}".encode()).hexdigest()
