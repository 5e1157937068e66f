"""Reading calls: messages as iterators that end the call when they are closed, errors in our own words."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

import grpc

from sampan.wire.channel import rpc_errors

M = TypeVar("M")
V = TypeVar("V")


async def read(
    call: "grpc.aio.UnaryStreamCall[Any, M] | grpc.aio.StreamStreamCall[Any, M]", decode: Callable[[M], V]
) -> AsyncGenerator[V, None]:
    """Yield what a call's messages stand for; whoever leaves the iterator ends the call.

    Raises:
        SampanError: of the kind that the other side raised.
    """
    try:
        with rpc_errors():
            async for message in call:
                yield decode(message)
    finally:
        call.cancel()


async def requests(first: M, rest: AsyncIterator[V], encode: Callable[[V], M]) -> AsyncGenerator[M, None]:
    """Yield the requests of a call: one that says what it is about, and then what ``rest`` yields."""
    yield first
    async for one in rest:
        yield encode(one)
