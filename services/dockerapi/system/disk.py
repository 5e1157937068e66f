"""Disk use, and what remains of pulls: /system/df and /build/prune."""

import time
from typing import Any, Final

from aiohttp import web

from dockerapi.container.container_json import summary_json as container_json
from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route
from dockerapi.image.image_json import summary_json as image_json
from dockerapi.volumes import volume_json
from sampan.engine import publish
from sampan.engine.df import DiskUse
from sampan.errors import InvalidArgumentError

_TYPES: Final = ("image", "container", "volume", "build-cache")


async def usage(call: Call) -> web.StreamResponse:
    """GET /system/df."""
    wanted = call.request.query.getall("type", list(_TYPES))
    for kind in wanted:
        if kind not in _TYPES:
            raise InvalidArgumentError(f"unknown object type: {kind}")
    used = await call.engine.disk_use(
        images="image" in wanted, containers="container" in wanted, volumes="volume" in wanted
    )
    result: dict[str, Any] = {}
    if "image" in wanted:
        result |= {"LayersSize": used.layers_bytes, "Images": _images(call, used)}
    if "container" in wanted:
        result["Containers"] = _containers(call, used)
    if "volume" in wanted:
        result["Volumes"] = [
            volume_json(volume) | {"UsageData": {"RefCount": len(volume.used_by), "Size": volume.size_bytes}}
            for volume in used.volumes
        ]
    if "build-cache" in wanted:
        result |= {"BuildCache": [], "BuilderSize": 0}
    return reply(result)


def _images(call: Call, used: DiskUse) -> list[dict[str, Any]]:
    return [
        image_json(one.image, one.size_bytes, call.version, shared_bytes=one.shared_bytes, containers=one.containers)
        for one in used.images
    ]


def _containers(call: Call, used: DiskUse) -> list[dict[str, Any]]:
    now = time.time()
    return [
        container_json(one.container, call.version, now)
        | {"SizeRw": one.size_rw_bytes, "SizeRootFs": one.size_root_bytes}
        for one in used.containers
    ]


async def prune_build_cache(call: Call) -> web.StreamResponse:
    """POST /build/prune, which ``docker system prune`` calls as well.

    What is kept here for the next time is what broken pulls have brought.
    """
    reclaimed = (await call.engine.collect_garbage(leftovers=True)).reclaimed_bytes
    await publish.pruned(call.engine, "builder", reclaimed)
    return reply({"CachesDeleted": None, "SpaceReclaimed": reclaimed})


ROUTES: Final = (
    Route("GET", "/system/df", usage),
    Route("POST", "/build/prune", prune_build_cache),
)
