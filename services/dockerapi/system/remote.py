"""What the command ``sampan`` asks of an engine whose sockets it cannot reach: gRPC, and what else it has to know."""

import asyncio
from typing import Final

from aiohttp import web

from dockerapi.build.tunnels import by_the_gate, check_upgrade
from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route


async def engine(call: Call) -> web.StreamResponse:
    """GET /grpc: what the engine's directories tell of it."""
    return reply(await asyncio.to_thread(call.backend.gate.engine))


async def grpc(call: Call) -> web.StreamResponse:
    """POST /grpc/{service}: what follows is HTTP/2 with that service."""
    check_upgrade(call)
    call.backend.gate.check(call.args["service"])
    return await by_the_gate(call, call.args["service"])


ROUTES: Final = (
    Route("GET", "/grpc", engine, alone=True),
    Route("POST", "/grpc/{service}", grpc, follows=True, alone=True),
)
