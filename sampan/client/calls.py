"""Reading calls: messages as iterators that end the call when they are closed, errors in our own words."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from sampan.errors import InternalError
from sampan.wire.channel import rpc_errors
from sampan.wire.status import is_broken_off

M = TypeVar("M")
V = TypeVar("V")
P = TypeVar("P", bound=Message)

# Lists of thousands, unless what is in them is out of the ordinary.
_RECENT: Final = 16

# For the end of a call that is over, and whose last words are on their way to the loop.
_LAST_WORDS_S: Final = 5.0


@asynccontextmanager
async def as_ended(
    call: "grpc.aio.UnaryStreamCall[Any, Any] | grpc.aio.StreamStreamCall[Any, Any]",
) -> AsyncIterator[None]:
    """Have a call within end as the other side ended it, also if a message of ours came too late for it.

    gRPC makes that an error of its own, and forgets for it what the other side said, or has yet to say.

    Raises:
        grpc.aio.AioRpcError: the other side raised something, or has gone.
    """
    said: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda _: _note(call, said))  # at its own error and at the end, whichever comes first
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if not is_broken_off(error):
            raise
        try:
            end = await asyncio.wait_for(said, _LAST_WORDS_S)
        except TimeoutError:
            raise error from None
        if end.code() is not grpc.StatusCode.OK:
            raise end from None


def _note(call: Any, said: "asyncio.Future[grpc.aio.AioRpcError]") -> None:
    """Set what a call that is over ends with, unless that is gRPC's own error."""
    first, last = _at_once(call.initial_metadata()), _at_once(call.trailing_metadata())
    end = grpc.aio.AioRpcError(_at_once(call.code()), first, last, details=_at_once(call.details()))
    if not said.done() and not is_broken_off(end):
        said.set_result(end)


def _at_once(known: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call that is over knows: a moment later it may know something else."""
    try:
        known.send(None)
    except StopIteration as end:
        return end.value
    known.close()
    raise InternalError("a call that is over does not know how it ended")


async def read(
    call: "grpc.aio.UnaryStreamCall[Any, M] | grpc.aio.StreamStreamCall[Any, M]", decode: Callable[[M], V]
) -> AsyncGenerator[V, None]:
    """Yield what a call's messages stand for; whoever leaves the iterator ends the call.

    Raises:
        SampanError: of the kind that the other side raised.
    """
    try:
        with rpc_errors():
            async with as_ended(call):
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
