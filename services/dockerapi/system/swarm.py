"""Swarm: this node is in none, and says so the way a Docker node does."""

from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.routing import Route
from sampan.errors import UnavailableError

NOT_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
_NOT_PART: Final = "This node is not part of a swarm"

_PATHS: Final = (
    ("GET", "/swarm"),
    ("POST", "/swarm/update"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    *(("GET", f"/{kind}") for kind in ("services", "tasks", "nodes", "secrets", "configs")),
    *(("POST", f"/{kind}/create") for kind in ("services", "secrets", "configs")),
    *(
        (method, f"/{kind}/{{id}}{tail}")
        for kind in ("services", "tasks", "nodes", "secrets", "configs")
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/update"), ("GET", "/logs"))
    ),
)


async def not_manager(_: Call) -> web.StreamResponse:
    """Refuse whatever only a manager can do."""
    raise UnavailableError(NOT_MANAGER)


async def not_part(_: Call) -> web.StreamResponse:
    """POST /swarm/leave."""
    raise UnavailableError(_NOT_PART)


ROUTES: Final = (
    *(Route(method, path, not_manager, alone=True) for method, path in _PATHS),
    Route("POST", "/swarm/leave", not_part, alone=True),
)
