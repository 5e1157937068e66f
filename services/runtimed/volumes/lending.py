"""A volume's content for whoever reads or writes it from the host's side: mounted meanwhile, and not removed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from runtimed.volumes.local_driver import LocalDriver
from runtimed.volumes.plugged import PluggedVolumes, is_plugged
from runtimed.volumes.store import VolumeStore
from runtimed.volumes.users import Users
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.volume import Volume


class Lender:
    """Lends volumes; for one event loop. What is lent is noted in memory alone, as it ends with this process."""

    def __init__(
        self,
        driver: LocalDriver,
        plugged: PluggedVolumes,
        store: VolumeStore,
        users: Users,
        lock: Callable[[str], asyncio.Lock],
    ) -> None:
        self._driver = driver
        self._plugged = plugged
        self._store = store
        self._users = users
        self._lock = lock
        self._lent: dict[str, int] = {}  # how often, by volume

    def refuse_lent(self, name: str) -> None:
        """Raise ConflictError if somebody reads or writes the volume just now."""
        if name in self._lent:
            raise ConflictError(f"remove {name}: volume is in use - its content is being copied")

    @asynccontextmanager
    async def lent(self, name: str) -> AsyncIterator[Path]:
        """Give the directory that has the volume's content, mounted as its options or its plugin say.

        Raises:
            NotFoundError: there is no such volume.
            StartError: it cannot be mounted.
        """
        key = f"lent-{secrets.token_hex(16)}"
        async with self._lock(name):
            volume = await self._store.get(name)
            if volume is None:
                raise NotFoundError(f"get {name}: no such volume")
            self._lent[name] = self._lent.get(name, 0) + 1
            self._users.enter(name, key)
            try:
                place = await self._mount(volume, key)
            except BaseException:
                self._forget(name, key)
                raise
        try:
            yield place
        finally:
            await to_the_end(self._give_back(volume, key))

    async def _mount(self, volume: Volume, key: str) -> Path:
        if is_plugged(volume):
            return await self._plugged.lend(volume, key)
        if volume.options:
            await asyncio.to_thread(self._driver.mount, volume.name, volume.options)
        return self._driver.mountpoint(volume.name)

    async def _give_back(self, volume: Volume, key: str) -> None:
        async with self._lock(volume.name):
            last = self._forget(volume.name, key)
            if is_plugged(volume):
                await self._plugged.take_back(volume, key)
            elif last and volume.options:
                await asyncio.to_thread(self._driver.unmount, volume.name)

    def _forget(self, name: str, key: str) -> bool:
        self._lent[name] -= 1
        if not self._lent[name]:
            del self._lent[name]
        return self._users.drop(name, key)
