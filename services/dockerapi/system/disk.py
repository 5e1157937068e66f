"""Disk use: /system/df."""

import time
from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.listing import Part, Rows, reply_object
from dockerapi.http.routing import Route
from sampan.build.request import UsageRecord
from sampan.docker.container_view import summary_json as container_json
from sampan.docker.image_view import summary_json as image_json
from sampan.docker.times import rfc3339_ns
from sampan.docker.volume_view import volume_json
from sampan.engine.df import DiskUse
from sampan.engine.listing import container_pages, image_pages
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject

_TYPES: Final = ("image", "container", "volume", "build-cache")


async def usage(call: Call) -> web.StreamResponse:
    """GET /system/df."""
    wanted = call.request.query.getall("type", list(_TYPES))
    for kind in wanted:
        if kind not in _TYPES:
            raise InvalidArgumentError(f"unknown object type: {kind}")
    used = await call.system.disk_use(
        images="image" in wanted, containers="container" in wanted, volumes="volume" in wanted
    )
    parts: list[Part] = []
    headers: dict[str, str] = {}
    if "image" in wanted:
        parts += (Part("LayersSize", used.layers_bytes), Part("Images", _images(call, used)))
    if "container" in wanted:
        parts.append(Part("Containers", _containers(call, used)))
    if "volume" in wanted:
        rows = [
            volume_json(volume) | {"UsageData": {"RefCount": len(volume.used_by), "Size": volume.size_bytes}}
            for volume in used.volumes
        ]
        parts.append(Part("Volumes", rows))
    if "build-cache" in wanted:
        cache = await call.system.cache_use()
        if cache.missing:  # the answer has no place for it, and the rest is still worth having
            headers["Warning"] = f'299 - "{cache.missing}"'
        own_bytes = sum(record.size_bytes for record in cache.records if not record.shared)
        parts += (Part("BuildCache", list(map(_record_json, cache.records))), Part("BuilderSize", own_bytes))
    return await reply_object(call.request, *parts, headers=headers)


async def _images(call: Call, used: DiskUse) -> Rows:
    uses = {one.image.id: one for one in used.images}

    async with aclosing(image_pages(call.system.images, used.listed_images)) as pages:
        async for images in pages:
            yield [
                image_json(
                    image, one.size_bytes, call.version, shared_bytes=one.shared_bytes, containers=one.containers
                )
                for image in images
                if (one := uses.get(image.id)) is not None  # it may be newer
            ]


async def _containers(call: Call, used: DiskUse) -> Rows:
    now = time.time()
    uses = {one.container.id: one for one in used.containers}

    async with aclosing(container_pages(call.control, used.listed_containers)) as pages:
        async for containers in pages:
            yield [
                container_json(container, call.version, now)
                | {"SizeRw": one.size_rw_bytes, "SizeRootFs": one.size_root_bytes}
                for container in containers
                if (one := uses.get(container.id)) is not None
            ]


def _record_json(record: UsageRecord) -> JsonObject:
    return {
        "ID": record.id,
        "Parent": record.parents[0] if len(record.parents) == 1 else "",
        "Parents": list(record.parents) or None,
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
