"""The engine itself: /_ping, /version, /info, /system/df."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from dockerapi.http import versions
from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route
from sampan.docker.info_view import default_runtime, host_facts, info_json
from sampan.engine.df import engine_facts
from sampan.version import VERSION

_PING_HEADERS: Final = {
    # Version 1 says that builds go to the classic endpoint; 2 would promise BuildKit's gRPC.
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}

_NOT_APPLICABLE: Final = "n/a"  # clients print what a Go program would say; an empty line looks like a fault


async def ping(call: Call) -> web.StreamResponse:
    """GET and HEAD /_ping."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    headers = {**_PING_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=body, headers=headers)


async def version(call: Call) -> web.StreamResponse:
    """GET /version."""
    facts = host_facts()
    host = await call.runtime.host.info()
    runtime = default_runtime(host)
    python = sys.version.partition(" ")[0]
    installed = await asyncio.to_thread(_installed)
    details = {
        "ApiVersion": versions.text(versions.NEWEST),
        "Arch": facts.architecture,
        "BuildTime": installed,
        "Experimental": "false",
        "GitCommit": _NOT_APPLICABLE,
        "GoVersion": f"{_NOT_APPLICABLE} (Python {python})",
        "KernelVersion": facts.kernel,
        "MinAPIVersion": versions.text(versions.OLDEST),
        "Os": "linux",
        "PythonVersion": python,
    }
    return reply(
        {
            "Platform": {"Name": "Sampan"},
            "Components": [
                {"Name": "Engine", "Version": VERSION, "Details": details},
                {"Name": "conmon", "Version": host.conmon_version, "Details": {}},
                {"Name": runtime.name, "Version": runtime.version, "Details": {}},
            ],
            "Version": VERSION,
            "ApiVersion": details["ApiVersion"],
            "MinAPIVersion": details["MinAPIVersion"],
            "GitCommit": details["GitCommit"],
            "GoVersion": details["GoVersion"],
            "Os": "linux",
            "Arch": facts.architecture,
            "KernelVersion": facts.kernel,
            "BuildTime": installed,
        }
    )


def _installed() -> str:
    """Return when this version came to the machine: nothing is built."""
    return datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC).isoformat()


async def info(call: Call) -> web.StreamResponse:
    """GET /info."""
    shown = info_json(await engine_facts(call.engine, call.runtime.host, call.engine.layout))
    if call.version < (1, 25):
        shown["SecurityOptions"] = [
            option.removeprefix("name=").partition(",")[0] for option in shown["SecurityOptions"]
        ]
    return reply(shown | {"NFd": _open_files(), "NGoroutines": len(asyncio.all_tasks())})


def _open_files() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count needs no Path objects


async def plugins(_: Call) -> web.StreamResponse:
    """GET /plugins: drivers are built in."""
    return reply([])


ROUTES: Final = (
    Route("GET", "/_ping", ping, alone=True),
    Route("HEAD", "/_ping", ping, alone=True),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/plugins", plugins),
)
