"""Disk use: /system/df."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.listing import Part, Rows, reply_object
from dockerapi.http.routing import Route
from dockerapi.http.versions import Version
from sampan.build.request import UsageRecord
from sampan.docker.times import rfc3339_ns
from sampan.docker.views.container_view import summary_json as container_json
from sampan.docker.views.image_view import summary_json as image_json
from sampan.docker.views.volume_view import volume_json
from sampan.engine.df import CacheUse, ContainerUse, DiskUse, Total
from sampan.engine.listing import container_pages, image_pages
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.resource.container import ContainerDetails

_TYPES: Final = ("image", "container", "volume", "build-cache")


async def usage(call: Call) -> web.StreamResponse:
    """GET /system/df."""
    wanted = call.all_since((1, 42), "type") or list(_TYPES)
    for kind in wanted:
        if kind not in _TYPES:
            raise InvalidArgumentError(f"unknown object type: {kind}")
    used, cache = await asyncio.gather(  # the builder may have to be started first
        call.system.disk_use(images="image" in wanted, containers="container" in wanted, volumes="volume" in wanted),
        _cache_use(call, asked="build-cache" in wanted),
    )
    verbose = call.version >= (1, 52) and call.flag("verbose")
    parts: list[Part] = []
    headers: dict[str, str] = {}
    if cache is not None and cache.missing:  # the answer has no place for it, and the rest is still worth having
        headers["Warning"] = f'299 - "{cache.missing}"'
    if call.version >= (1, 52):
        for kind, total in _totals(used, cache, wanted).items():
            items = await _items(call, kind, used, cache) if verbose else []
            parts.append(Part(kind, total | ({"Items": items} if items else {})))
    if not verbose:
        parts += _legacy(call, used, cache, wanted)
    return await reply_object(call.request, *parts, headers=headers)


async def _cache_use(call: Call, *, asked: bool) -> CacheUse | None:
    return await call.system.cache_use() if asked else None


async def _items(call: Call, kind: str, used: DiskUse, cache: CacheUse | None) -> Sequence[object]:
    """Return what is counted of a kind, one by one."""
    if kind == "VolumeUsage":
        return _volumes(used)
    if kind == "BuildCacheUsage":
        return [_record_json(record, call.version) for record in (cache.records if cache else ())]
    rows = _images(call, used, image_json) if kind == "ImageUsage" else _containers(call, used)
    return [row async for page in rows for row in page]


def _legacy(call: Call, used: DiskUse, cache: CacheUse | None, wanted: Collection[str]) -> Iterator[Part]:
    """Yield what there was before 1.52, and is still there beside it."""
    if "image" in wanted:
        yield Part("LayersSize", used.layers_bytes)
        yield Part("Images", _images(call, used, call.backend.image_rows.row))
    if "container" in wanted:
        yield Part("Containers", _containers(call, used))
    if "volume" in wanted:
        yield Part("Volumes", _volumes(used))
    if cache is not None:
        yield Part("BuildCache", [_record_json(record, call.version) for record in cache.records])
        if call.version < (1, 42):
            yield Part("BuilderSize", cache.total().size_bytes)


def _totals(used: DiskUse, cache: CacheUse | None, wanted: Collection[str]) -> dict[str, dict[str, int]]:
    """Return of each kind how many there are, how many are in use, what they take and what could be had back."""
    totals = {}
    if "image" in wanted:
        totals["ImageUsage"] = _total_json(used.images_total())
    if "container" in wanted:
        totals["ContainerUsage"] = _total_json(used.containers_total())
    if "volume" in wanted:
        totals["VolumeUsage"] = _total_json(used.volumes_total())
    if cache is not None:
        totals["BuildCacheUsage"] = _total_json(cache.total())
    return totals


def _total_json(total: Total) -> dict[str, int]:
    """Return a kind's numbers; as everywhere in Go, none is not told."""
    numbers = {
        "ActiveCount": total.active,
        "TotalCount": total.count,
        "TotalSize": total.size_bytes,
        "Reclaimable": total.reclaimable_bytes,
    }
    return {name: number for name, number in numbers.items() if number}


def _volumes(used: DiskUse) -> list[JsonObject]:
    return [
        volume_json(volume) | {"UsageData": {"RefCount": len(volume.used_by), "Size": volume.size_bytes}}
        for volume in used.volumes
    ]


async def _images(call: Call, used: DiskUse, render: Callable[..., object]) -> Rows:
    """Yield all images; ``render`` is ``image_json``, or writes what that says."""
    uses = {one.image.id: one for one in used.images}

    async with aclosing(image_pages(call.system.images, used.listed_images)) as pages:
        async for images in pages:
            yield [
                render(image, one.size_bytes, call.version, shared_bytes=one.shared_bytes, containers=one.containers)
                for image in images
                if (one := uses.get(image.id)) is not None  # it may be newer
            ]


async def _containers(call: Call, used: DiskUse) -> Rows:
    now = time.time()
    uses = {one.container.id: one for one in used.containers}

    def row(container: ContainerDetails, use: ContainerUse) -> JsonObject:
        shown = container_json(container, call.version, now)
        shown.pop("ImageManifestDescriptor", None)  # which Docker tells in lists of containers alone
        return shown | {"SizeRw": use.size_rw_bytes, "SizeRootFs": use.size_root_bytes}

    async with aclosing(container_pages(call.control, used.listed_containers)) as pages:
        async for containers in pages:
            yield [row(one, use) for one in containers if (use := uses.get(one.id)) is not None]


def _record_json(record: UsageRecord, version: Version) -> JsonObject:
    # dockerd writes the name with a space before it, and so it is read by Docker's client.
    parents: JsonObject = {name: list(record.parents) for name in ("Parents", " Parents") if record.parents}
    if version < (1, 42):
        parents = {"Parent": record.parents[0] if len(record.parents) == 1 else ""}
    return {
        "ID": record.id,
        **parents,
        "Type": record.type,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size_bytes,
        "CreatedAt": rfc3339_ns(record.created_ns),
        "LastUsedAt": rfc3339_ns(record.last_used_ns) if record.last_used_ns else None,
        "UsageCount": record.usage_count,
    }


ROUTES: Final = (Route("GET", "/system/df", usage),)
