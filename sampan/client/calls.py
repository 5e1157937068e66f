"""Reading calls: messages as iterators that end the call when they are closed, errors in our own words."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from sampan.wire.channel import rpc_errors

M = TypeVar("M")
V = TypeVar("V")
P = TypeVar("P", bound=Message)

# Lists of thousands, unless what is in them is out of the ordinary.
_RECENT: Final = 16


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


def _serialized(request: Message) -> bytes:
    # Of the message's own class: the base's raises, and gRPC then sends an empty request without a word.
    return request.SerializeToString()


class Recent(Generic[P, V]):
    """Pages of a list that is asked for again and again: each that has not changed is decoded once.

    What comes out is shared: it must be frozen, or left alone.
    """

    def __init__(
        self, channel: grpc.aio.Channel, method: MethodDescriptor, page: type[P], decode: Callable[[P], V]
    ) -> None:
        name = f"/{method.containing_service.full_name}/{method.name}"
        self._call: grpc.aio.UnaryStreamMultiCallable[Message, bytes] = channel.unary_stream(
            name, request_serializer=_serialized
        )
        self._page, self._decode = page, decode
        self._known: dict[bytes, V] = {}  # the page that was not used for longest first

    def pages(self, request: Message, timeout_s: float | None = None) -> AsyncGenerator[V, None]:
        """Yield what the answer's messages stand for. Raises as ``read``."""
        return read(self._call(request, timeout=timeout_s), self._decoded)

    def _decoded(self, sent: bytes) -> V:
        known = self._known.pop(sent, None)
        self._known[sent] = value = self._decode(self._page.FromString(sent)) if known is None else known
        if len(self._known) > _RECENT:
            del self._known[next(iter(self._known))]
        return value
