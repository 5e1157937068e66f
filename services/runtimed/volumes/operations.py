"""Volumes: made, listed, held by containers, filled from images, removed; and the bind sources of containers."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from runtimed.lifecycle.background import Background
from runtimed.protocol import Publish
from runtimed.volumes.copyup import copy_up_from
from runtimed.volumes.lending import Lender
from runtimed.volumes.local_driver import LocalDriver, check_options
from runtimed.volumes.plugged import PluggedVolumes, is_plugged
from runtimed.volumes.plugins import Plugins
from runtimed.volumes.selection import check_sources, make_source, point_of, select, shared, split_prune_filters
from runtimed.volumes.store import Filled, Hold, VolumeStore
from runtimed.volumes.users import Users, volumes_of
from sampan import limits
from sampan.docker.options.mounts import check_mounts, check_volume_name, normal
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, RemoteError, SampanError, reworded
from sampan.log import log
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, Mount, MountType
from sampan.resource.listing import NO_FILTERS, Filters, Pruned
from sampan.resource.volume import LOCAL, Volume, VolumeRequest
from sampan.service.set_aside import SetAside
from sampan.sys.trees import walking

ANONYMOUS_LABEL: Final = "com.docker.volume.anonymous"


class LocalVolumes:
    """Satisfies ``protocol.Volumes``, and is what the ``Volumes`` service serves."""

    def __init__(
        self,
        root: Path,
        store: VolumeStore,
        publish: Publish,
        background: Background,
        set_aside: SetAside,
        plugins: Plugins | None = None,
    ) -> None:
        """``root`` is the directory that holds all volumes; call ``recover`` before anything else."""
        self._driver = LocalDriver(root)
        self._store = store
        self._publish = publish
        self._background = background
        self._set_aside = set_aside
        self._users = Users(publish)
        self._plugged = PluggedVolumes(plugins or Plugins(), store)
        self.lender = Lender(self._driver, self._plugged, store, self._users, self._lock)
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def recover(self) -> None:
        """Reconcile disk and records after whatever happened.

        Removals that had begun are finished. A directory without a record becomes a volume, as one restored from a
        copy does, unless it is empty; a record without a directory gets an empty one. A volume with which that does
        not work is set aside: it can be removed, and no container gets it.
        """
        await asyncio.to_thread(self._driver.prepare)
        for name in await asyncio.to_thread(lambda: list(self._driver.leftovers())):
            with self._set_aside.guard("leftover", name):
                await self._finish_removal(name)
        known = {volume.name: volume for volume in await self._store.all()}
        for name in await asyncio.to_thread(lambda: list(self._driver.found())):
            if name not in known:
                with self._set_aside.guard("volume", name):
                    await self._adopt(name)
        for name, volume in known.items():
            with self._set_aside.guard("volume", name):
                if not is_plugged(volume):
                    await asyncio.to_thread(self._driver.make, name)
                if volume.fault:
                    self._set_aside.add("volume", name, volume.fault)

    async def _finish_removal(self, name: str) -> None:
        if await self._store.remove(name):
            log.warning("volume kept: it is in use", volume=name)
            await asyncio.to_thread(self._driver.show, name)
        else:  # which may take as long as whoever filled it likes
            self._background.watch(self._discard(name), f"remove volume {name}")

    async def create(self, request: VolumeRequest) -> Volume:
        """Return the volume of that name, made if there is none; without a name an anonymous one is made.

        Raises:
            InvalidArgumentError: a name or an option that cannot be; in Docker's words.
            NotFoundError: an unknown driver.
            ConflictError: another driver has a volume of that name.
            RemoteError: the plugin cannot make it, or does not answer.
        """
        volume, _ = await self._create(request.name, request.driver, request.options, request.labels)
        return await self._shown(volume)

    async def _create(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str],
        labels: Mapping[str, str],
        holder: tuple[str, str] | None = None,
    ) -> tuple[Volume, bool]:
        """Return the volume and whether it is new; ``holder``, a container and a target, holds a new one at once."""
        anonymous = not name
        if anonymous:
            name = secrets.token_hex(32)
            labels = {**labels, ANONYMOUS_LABEL: ""}
        try:
            limits.check_name(name, "volume name")
            limits.check_labels(labels, "labels")
            limits.check_labels(options, "options")
            if driver in ("", LOCAL):
                check_options(options)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"create {name[: limits.NAME_CHARACTERS]}: {error}") from error
        async with self._lock(name):
            known = await self._store.get(name)
            if known is not None:
                if driver and driver != known.driver:
                    raise ConflictError(f"create {name}: conflict: volume name must be unique")
                return known, False
            if not driver and not anonymous and (found := await self._plugged.find(name)):
                driver = found.driver  # as Docker looks for a volume of that name wherever there may be one
            if driver in ("", LOCAL):
                check_volume_name(name)
                await asyncio.to_thread(self._driver.make, name)
            else:
                await self._make_plugged(driver, name, options)
            volume = Volume(name, datetime.now(UTC), driver or LOCAL, dict(labels), dict(options), anonymous)
            # A new directory is empty, so filling it may count as begun: one write less on the way to a start. What
            # options will mount there need not be empty.
            filled = Filled.NO if options or is_plugged(volume) else Filled.BEGUN
            await self._store.add(volume, Hold(*holder, name, filled) if holder else None)
        self._publish("volume", "create", name, {"driver": volume.driver})
        return volume, True

    async def _make_plugged(self, driver: str, name: str, options: Mapping[str, str]) -> None:
        try:
            await self._plugged.make(driver, name, dict(options))
        except (NotFoundError, RemoteError) as error:
            raise reworded(error, f"create {name}: {error}") from error

    async def get(self, name: str) -> Volume:
        """Return a volume. Raises NotFoundError in Docker's words."""
        volume = await self._store.get(name) or await self._plugged.find(name)
        if volume is None:
            raise NotFoundError(f"get {name}: no such volume")
        return await self._shown(volume)

    async def _shown(self, volume: Volume) -> Volume:
        return await self._plugged.shown(volume) if is_plugged(volume) else self._placed(volume)

    async def drivers(self) -> tuple[str, ...]:
        """Return the names of all drivers that volumes can have."""
        return (LOCAL, *await self._plugged.drivers())

    def _placed(self, volume: Volume, size_bytes: int | None = None) -> Volume:
        """Return a volume with what its record does not say."""
        return replace(volume, mountpoint=self.mountpoint(volume), size_bytes=size_bytes)

    def mountpoint(self, volume: Volume) -> str:
        """Return where its content is; of a plugin's, where it was when that was last asked."""
        return volume.mountpoint if is_plugged(volume) else str(self._driver.mountpoint(volume.name))

    async def size_bytes(self, volume: Volume) -> int:
        """Return what its content takes on disk, by reading the whole tree; each file counts once."""
        return await walking(lambda stop: self._driver.size_bytes(volume.name, stop))

    async def list(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> tuple[Volume, ...]:
        """Return the volumes that match, by name. Raises InvalidArgumentError for an unknown filter."""
        recorded = await self._store.all()
        own = [volume for volume in recorded if not is_plugged(volume)]
        plugged = await self._plugged.all_shown(volume for volume in recorded if is_plugged(volume))
        found = select(sorted((*own, *plugged), key=lambda volume: volume.name), filters)
        return tuple(
            [
                one if is_plugged(one) else self._placed(one, await self.size_bytes(one) if size else None)
                for one in found
            ]
        )

    async def pages(
        self, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> AsyncGenerator[Sequence[Volume], None]:
        """Yield the volumes that match."""
        yield await self.list(filters, size=size)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its content; with ``force`` no error if there is none.

        Raises:
            NotFoundError: there is none.
            ConflictError: containers use it; in Docker's words.
            RemoteError: its plugin cannot remove it, or does not answer.
        """
        async with self._lock(name):
            volume = await self._store.get(name) or await self._plugged.find(name)
            if volume is None:
                if force:
                    return
                raise NotFoundError(f"get {name}: no such volume")
            _refuse_used(name, volume.used_by)
            self.lender.refuse_lent(name)
            await self._remove(volume, force=force)

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove the volumes that nobody uses, anonymous ones alone unless the filter ``all`` is true.

        Returns their names and how many bytes they took.
        """
        everything, rest = split_prune_filters(filters)
        removed: tuple[str, ...] = ()
        reclaimed = 0
        for volume in select(await self._store.all(), rest):
            if is_plugged(volume) or volume.used_by or not (everything or volume.anonymous):
                continue
            size = await self.size_bytes(volume)
            try:
                await self.remove(volume.name, force=True)
            except ConflictError:
                continue  # somebody took it meanwhile
            removed += (volume.name,)
            reclaimed += size
        self._publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return Pruned(removed, reclaimed)

    async def resolve(self, container_id: str, spec: ContainerSpec) -> tuple[MountPoint, ...]:
        """At create: check bind sources, make missing volumes, hold them for the container; see ``protocol``."""
        check_mounts(spec.mounts, spec.anonymous_volumes)
        await asyncio.to_thread(check_sources, spec.mounts)
        covered = {normal(mount.target) for mount in spec.mounts}
        unnamed = Mount(MountType.VOLUME, "", volume_driver=spec.volume_driver)
        anonymous = [replace(unnamed, target=each) for each in spec.anonymous_volumes if normal(each) not in covered]
        if not (mounts := [*spec.mounts, *anonymous]):
            return ()
        held = await self._store.holds(container_id)
        points = []
        for position, mount in enumerate(mounts):
            if mount.type is MountType.IMAGE:
                points.append(point_of(replace(mount, read_only=True), "", mount.source))
            elif mount.type is MountType.VOLUME:
                volume = await self._hold(container_id, mount, held.get(normal(mount.target)))
                known = shared(mount, volume.driver) if position < len(spec.mounts) else mount
                points.append(point_of(known, self.mountpoint(volume), volume.name, volume.driver))
            else:
                points.append(point_of(mount, mount.source))
        return tuple(points)

    async def fill(self, container: Container, root: Path) -> Mapping[str, str]:
        """Before every start: mount volumes that have to be, make missing bind sources, fill new volumes."""
        asked = {normal(mount.target): mount for mount in container.spec.mounts}
        for point in container.mounts:
            mount = asked.get(normal(point.target))
            if point.type is MountType.BIND and mount is not None and mount.create_source:
                await asyncio.to_thread(make_source, point.source)
        used = volumes_of(container)
        places: dict[str, str] = {}
        if not used:
            return places
        holds = await self._store.holds(container.id)
        for point in used:
            self._check_usable(point.name)
            volume = await self._store.get(point.name)
            if volume is None:
                raise NotFoundError(f"get {point.name}: no such volume")
            async with self._lock(volume.name):
                self._users.enter(volume.name, container.id)
                place = self._driver.mountpoint(volume.name)
                if is_plugged(volume):
                    place = await self._plugged.mount(volume, container, point.target)
                    places[point.target] = str(place)
                elif volume.options:
                    await self._mount(volume)
                hold = holds.get(normal(point.target))
                if hold is not None and hold.filled is not Filled.DONE:
                    mount = asked.get(normal(point.target))
                    copy = not (mount and (mount.no_copy or mount.subpath))
                    await self._fill(hold, root, place, copy=copy)
        return places

    def tell_mounted(self, container: Container) -> None:
        """At a start, after ``fill``: publish that its volumes are mounted."""
        self._users.tell(container)

    def adopt(self, container: Container) -> None:
        """At recovery: it runs, with its volumes."""
        self._users.adopt(container)

    async def leave(self, container: Container) -> None:
        """When it does not run (any more): unmount what options have mounted if nobody else has it. Safe to repeat."""
        for point in volumes_of(container):
            async with self._lock(point.name):
                last = self._users.leave(container, point)
                volume = await self._store.get(point.name)
                if volume is None:
                    continue
                if is_plugged(volume):
                    await self._plugged.unmount(volume, container, point)
                elif last and volume.options:
                    await asyncio.to_thread(self._driver.unmount, point.name)

    async def release(self, container_id: str, *, anonymous: bool) -> None:
        """At remove: let go of the container's volumes, and delete its anonymous ones if asked."""
        for name in await self._store.release(container_id):
            async with self._lock(name):
                volume = await self._store.get(name)
                if volume is None or volume.used_by:
                    continue
                if anonymous and volume.anonymous:
                    await self._remove(volume, force=True)
                elif not is_plugged(volume):
                    await asyncio.to_thread(self._driver.unmount, name)

    async def _hold(self, container_id: str, mount: Mount, before: Hold | None) -> Volume:
        """Return the volume for ``mount``, held so that nobody removes it."""
        while True:
            name = before.volume if before is not None else mount.source
            target = normal(mount.target)
            self._check_usable(name)
            volume, new = await self._create(
                name, mount.volume_driver, mount.volume_options, mount.volume_labels, (container_id, target)
            )
            if new or await self._store.hold(Hold(container_id, target, volume.name)):
                return volume

    async def _fill(self, hold: Hold, root: Path, volume: Path, *, copy: bool) -> None:
        if copy and (hold.filled is Filled.BEGUN or await asyncio.to_thread(_is_empty, volume)):
            if hold.filled is not Filled.BEGUN:
                await self._store.set_filled(hold.container_id, hold.target, Filled.BEGUN)
            await asyncio.to_thread(copy_up_from, root, hold.target, volume)
        await self._store.set_filled(hold.container_id, hold.target, Filled.DONE)

    def _check_usable(self, name: str) -> None:
        if reason := self._set_aside.reason("volume", name):
            raise ConflictError(f"volume {name} was set aside when the engine started, remove it: {reason}")

    async def _mount(self, volume: Volume) -> bool:
        return await asyncio.to_thread(self._driver.mount, volume.name, volume.options)

    async def _remove(self, volume: Volume, *, force: bool) -> None:
        if is_plugged(volume):
            await self._remove_plugged(volume, force=force)
            return
        await asyncio.to_thread(self._driver.unmount, volume.name)
        await asyncio.to_thread(self._driver.hide, volume.name)
        users = await self._store.remove(volume.name)
        if users:
            await asyncio.to_thread(self._driver.show, volume.name)
            _refuse_used(volume.name, users)
        self._set_aside.drop("volume", volume.name)
        self._publish("volume", "destroy", volume.name, {"driver": volume.driver})
        await self._background.finish(self._discard(volume.name), f"remove volume {volume.name}")

    async def _remove_plugged(self, volume: Volume, *, force: bool) -> None:
        """The record first: a volume that only its plugin knows can be listed and removed like any other."""
        _refuse_used(volume.name, await self._store.remove(volume.name))
        try:
            await self._plugged.remove(volume, force=force)
        except SampanError:
            if volume.created.timestamp() > 0:  # it had a record
                await self._store.add(volume)
            raise
        self._publish("volume", "destroy", volume.name, {"driver": volume.driver})

    async def _discard(self, name: str) -> None:
        """Remove the content of a volume that is no more. What cannot be removed is tried again at the next start."""
        try:
            await walking(lambda stop: self._driver.discard(name, stop))
        except OSError as error:
            self._set_aside.add("leftover", name, f"{error.filename}: {error.strerror}")

    async def _adopt(self, name: str) -> None:
        if await asyncio.to_thread(_is_empty, self._driver.mountpoint(name)):
            await asyncio.to_thread(self._driver.hide, name)
            await self._discard(name)
            return
        log.warning("volume found on disk", volume=name)
        await self._store.add(Volume(name, datetime.now(UTC)))

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def _refuse_used(name: str, users: tuple[str, ...]) -> None:
    if users:
        raise ConflictError(f"remove {name}: volume is in use - [{', '.join(users)}]")


def _is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None
