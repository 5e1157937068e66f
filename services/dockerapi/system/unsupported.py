"""What Docker's clients may ask for and this version of the engine cannot do. They are told so, by name."""

from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.routing import Handler, Route
from sampan.errors import UnimplementedError

_OPERATIONS: Final = (
    ("POST", "/swarm/init", "swarm mode"),
    ("POST", "/swarm/join", "swarm mode"),
    ("POST", "/plugins/pull", "installing plugins"),
    ("POST", "/plugins/create", "installing plugins"),
)


def _refuse(what: str) -> Handler:
    async def handler(_: Call) -> web.StreamResponse:
        raise UnimplementedError(f"{what} is not supported by this version of the engine")

    return handler


ROUTES: Final = tuple(Route(method, path, _refuse(what), alone=True) for method, path, what in _OPERATIONS)
