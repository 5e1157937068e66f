"""A service that refuses what is still being sent is understood, however the sending ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sampan.errors import InternalError, InvalidArgumentError, ServiceGoneError
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel, rpc_errors

_CALLS = 100


class _Handlers(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        methods = {"Refuse": self._refuse, "Fail": self._fail, "End": self._end, "Babble": self._babble}
        return grpc.stream_unary_rpc_method_handler(methods[details.method.rpartition("/")[2]])

    async def _refuse(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(requests)
        raise InvalidArgumentError("nicht gültig: 'x'")

    async def _fail(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(requests)
        raise KeyError("a secret of the code")

    async def _babble(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        raise InvalidArgumentError(f"it said: {bytes(range(256)).decode(errors='replace') * 30}")

    async def _end(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(requests)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return b""


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    server.add_generic_rpc_handlers((_Handlers(),))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with open_channel(tmp_path / "s") as channel:
        yield channel
    await server.stop(0)


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(60_000)
        await asyncio.sleep(0)


async def test_a_refusal_reaches_whoever_is_still_sending(channel: grpc.aio.Channel) -> None:
    method: Any = channel.stream_unary("/test.Test/Refuse")
    for _ in range(_CALLS):
        with pytest.raises(InvalidArgumentError, match=r"^nicht gültig: 'x'$"), rpc_errors():
            await method(_endless())


async def test_a_bug_is_told_as_one_to_whoever_is_still_sending(channel: grpc.aio.Channel) -> None:
    method: Any = channel.stream_unary("/test.Test/Fail")
    for _ in range(_CALLS):
        with pytest.raises(InternalError, match=r"^internal error \(request [0-9a-f]+\)$"), rpc_errors():
            await method(_endless())


async def test_what_a_stranger_babbled_is_told_to_clients_that_take_little(
    channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as foreign:  # with no option of ours
        method: Any = foreign.stream_unary("/test.Test/Babble")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(iter([b""]))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    words = raised.value.details() or ""
    assert words.startswith("it said: \0\1\2")
    assert words.endswith("…")


async def test_a_service_that_goes_away_is_still_said_to_have_gone(channel: grpc.aio.Channel) -> None:
    method: Any = channel.stream_unary("/test.Test/End")
    for _ in range(_CALLS):
        with pytest.raises(ServiceGoneError, match="went away"), rpc_errors():
            await method(_endless())
