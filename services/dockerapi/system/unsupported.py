"""What Docker's clients may ask for and this version of the engine cannot do. They are told so, by name."""

from typing import Final

from aiohttp import web

from dockerapi.http.call import Call
from dockerapi.http.routing import Handler, Route
from sampan.errors import NotFoundError, UnimplementedError

_OPERATIONS: Final = (
    ("POST", "/swarm/init", "swarm mode"),
    ("POST", "/swarm/join", "swarm mode"),
    ("POST", "/plugins/pull", "installing plugins"),
    ("POST", "/plugins/create", "installing plugins"),
    ("GET", "/plugins/privileges", "installing plugins"),
)

# What is asked of one of them, of which there are none.
_PLUGIN: Final = (
    ("GET", "/plugins/{name+}/json"),
    ("DELETE", "/plugins/{name+}"),
    *(("POST", f"/plugins/{{name+}}/{act}") for act in ("enable", "disable", "set", "upgrade", "push")),
)


# Docker has them in its experimental mode alone, and begins like this without.
_CHECKPOINTS: Final = (
    ("GET", "/containers/{id}/checkpoints"),
    ("POST", "/containers/{id}/checkpoints"),
    ("DELETE", "/containers/{id}/checkpoints/{checkpoint}"),
)


def _refuse(what: str) -> Handler:
    async def handler(_: Call) -> web.StreamResponse:
        raise UnimplementedError(f"{what} is not supported by this version of the engine")

    return handler


async def _no_plugin(call: Call) -> web.StreamResponse:
    raise NotFoundError(f'plugin "{call.args["name"]}" not found')


async def _not_experimental(_: Call) -> web.StreamResponse:
    raise UnimplementedError(
        "This experimental feature is disabled by default. "
        "This engine has no experimental mode, and checkpoints no containers."
    )


ROUTES: Final = (
    *(Route(method, path, _not_experimental, alone=True) for method, path in _CHECKPOINTS),
    *(Route(method, path, _refuse(what), alone=True) for method, path, what in _OPERATIONS),
    *(Route(method, path, _no_plugin, alone=True) for method, path in _PLUGIN),
)
