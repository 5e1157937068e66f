import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sampan.wire.channel import open_channel, reach, rpc_errors
from tests.fakes.line import Line, line_to


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no types
    async def Check(self, _request: health_pb2.HealthCheckRequest, _context: object) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
async def line() -> AsyncIterator[tuple[Line, Path]]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    with tempfile.TemporaryDirectory() as directory:  # a short path: a socket's has 107 bytes
        socket = Path(directory) / "s"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            async with line_to(socket) as found:
                yield found
        finally:
            await server.stop(None)


async def test_a_service_that_is_slow_to_say_hello_is_not_taken_for_one_that_is_away(line: tuple[Line, Path]) -> None:
    one, socket = line
    one.answering.clear()
    # Longer than the tenth of a second that gRPC gives an attempt by itself where it is to try again that soon.
    asyncio.get_running_loop().call_later(0.4, one.answering.set)
    async with open_channel(socket) as channel:
        with rpc_errors():
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())


async def test_a_service_that_comes_late_is_reached(line: tuple[Line, Path]) -> None:
    one, socket = line
    await one.close()
    async with open_channel(socket) as channel:
        reached = asyncio.create_task(reach(channel, "late", 30))
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        await channel.wait_for_state_change(grpc.ChannelConnectivity.CONNECTING)
        await one.listen()
        await reached
