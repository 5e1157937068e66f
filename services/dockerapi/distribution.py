"""GET /distribution/{name}/json: what a registry knows of an image."""

from typing import Final

from aiohttp import web

from dockerapi.call import Call
from dockerapi.routing import Route
from sampan.errors import UnimplementedError


async def inspect(_: Call) -> web.StreamResponse:
    """Say that this version of the engine does not ask registries without pulling."""
    raise UnimplementedError("distribution inspect is not supported by this version of the engine: pull the image")


ROUTES: Final = (Route("GET", "/distribution/{name+}/json", inspect),)
