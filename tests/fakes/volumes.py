"""Volumes in memory: ``resource.protocols.Volumes`` without a disk."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.resource.listing import NO_FILTERS, Filters, Pruned
from sampan.resource.volume import LOCAL, Volume, VolumeRequest

_SIZE_BYTES = 5


class FakeVolumes:
    """Volumes by name; each takes five bytes."""

    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}
        self.sizes_take_for_ever = False
        self.listing, self.list_cancelled = asyncio.Event(), asyncio.Event()

    async def create(self, request: VolumeRequest) -> Volume:
        if request.driver not in ("", LOCAL):
            raise NotFoundError(
                f"create {request.name}: error looking up volume plugin {request.driver}: "
                f'plugin "{request.driver}" not found'
            )
        if "/" in request.name:
            raise InvalidArgumentError(f'create {request.name}: "{request.name}" includes invalid characters')
        name = request.name or secrets.token_hex(32)
        volume = Volume(
            name,
            datetime.now(UTC),
            labels=request.labels,
            options=request.options,
            anonymous=not request.name,
            mountpoint=f"/volumes/{name}/_data",
        )
        return self.volumes.setdefault(name, volume)

    async def get(self, name: str) -> Volume:
        if name not in self.volumes:
            raise NotFoundError(f"get {name}: no such volume")
        return self.volumes[name]

    async def list(self, filters: Filters = NO_FILTERS, *, size: bool = False) -> tuple[Volume, ...]:
        if unknown := set(filters) - {"name", "label", "dangling", "driver"}:
            raise InvalidArgumentError(f"invalid filter '{min(unknown)}'")
        names = filters.get("name", ())
        found = [one for one in self.volumes.values() if not names or any(name in one.name for name in names)]
        self.listing.set()
        try:
            if size and self.sizes_take_for_ever:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.list_cancelled.set()
            raise
        measured = [replace(one, size_bytes=_SIZE_BYTES if size else None) for one in found]
        return tuple(sorted(measured, key=lambda one: one.name))

    async def pages(
        self, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> AsyncGenerator[Sequence[Volume], None]:
        yield await self.list(filters, size=size)

    async def remove(self, name: str, *, force: bool = False) -> None:
        volume = self.volumes.get(name)
        if volume is None:
            if force:
                return
            raise NotFoundError(f"get {name}: no such volume")
        if volume.used_by:
            raise ConflictError(f"remove {name}: volume is in use - [{', '.join(volume.used_by)}]")
        del self.volumes[name]

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        everything = "true" in filters.get("all", ())
        gone = [one.name for one in self.volumes.values() if not one.used_by and (everything or one.anonymous)]
        for name in gone:
            del self.volumes[name]
        return Pruned(tuple(sorted(gone)), len(gone) * _SIZE_BYTES)
