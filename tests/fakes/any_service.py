"""A service that has every method, behind a line that breaks in the middle of a call."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from sampan.errors import SampanError
from sampan.wire.channel import open_channel, reach
from sampan.wire.status import REASON_KEY, wire_for
from tests.fakes.line import Line, line_to


class AnyService(grpc.GenericRpcHandler):
    """Has every method; it is killed in the middle of the first calls, and ends the others as a test says."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.kills = 1
        self.told_before = 0  # messages of an answer that come before it is killed
        self.seen = asyncio.Event()  # set by a test that has seen them
        self.ends_with: SampanError | None = None  # None: an empty answer
        self.line: Line

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method.lstrip("/")

        async def answer(requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
            self.calls[method] += 1
            if self.calls.total() <= self.kills:
                for _ in range(self.told_before):
                    yield b""
                if self.told_before:
                    await self.seen.wait()
                self.line.cut()
                return
            if self.ends_with is not None:
                wire = wire_for(self.ends_with)
                await context.abort(wire.code, str(self.ends_with), ((REASON_KEY, wire.reason),))
            yield b""

        return grpc.stream_stream_rpc_method_handler(answer)


@asynccontextmanager
async def any_service() -> AsyncIterator[AnyService]:
    """Serve one."""
    handler, server = AnyService(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    with tempfile.TemporaryDirectory() as directory:  # a short path: a socket's has 107 bytes
        socket = Path(directory) / "s"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            async with line_to(socket) as (handler.line, _):
                yield handler
        finally:
            await server.stop(None)


@asynccontextmanager
async def connected(service: AnyService) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to it that is ready."""
    async with open_channel(service.line.here) as channel:
        await reach(channel, "any", 30)
        yield channel
