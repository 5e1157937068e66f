"""A servicer behind a socket, as the harness serves it: with its interceptor."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel


@asynccontextmanager
async def served(add: Callable[[grpc.aio.Server], None], at: Path | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to a server with what ``add`` adds to it; ``at`` is its socket, else it is somewhere."""
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    add(server)
    with tempfile.TemporaryDirectory() as directory:  # a short path: a socket's has 107 bytes
        socket = at or Path(directory) / "s"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            async with open_channel(socket) as channel:
                yield channel
        finally:
            await server.stop(None)
