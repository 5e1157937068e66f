"""The engine itself: /_ping, /version, /info, /system/df."""

import asyncio
import os
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call, empty, reply
from dockerapi.http.routing import Route
from sampan.docker.views.info_view import info_json, info_of
from sampan.docker.views.version_view import version_json

_PING_HEADERS: Final = {
    # The builder that clients are to prefer: 2 is BuildKit, 1 the classic endpoint, which is there as well.
    "Builder-Version": "2",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


async def options(_: Call) -> web.StreamResponse:
    """OPTIONS of whatever path: nothing to say, as dockerd."""
    return empty(200)


async def ping(call: Call) -> web.StreamResponse:
    """GET and HEAD /_ping."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    headers = {**_PING_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=body, headers=headers)


async def version(call: Call) -> web.StreamResponse:
    """GET /version."""
    with call.backend.metrics.host_function("system_version"):
        return reply(await asyncio.to_thread(version_json, await call.host.info()))


async def info(call: Call) -> web.StreamResponse:
    """GET /info."""
    with call.backend.metrics.host_function("system_info"):
        shown = info_of(info_json(await call.system.facts()), call.version)
    return reply(shown | {"NFd": _open_files(), "NGoroutines": len(asyncio.all_tasks())})


def _open_files() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count needs no Path objects


async def plugins(_: Call) -> web.StreamResponse:
    """GET /plugins: drivers are built in."""
    return reply([])


ROUTES: Final = (
    Route("GET", "/_ping", ping, alone=True),
    Route("OPTIONS", "/{any+}", options, alone=True),
    Route("HEAD", "/_ping", ping, alone=True),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/plugins", plugins),
)
