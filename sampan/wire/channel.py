"""The client's side of gRPC: a channel to a socket, and errors back in our own words."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import grpc

from sampan import tracing
from sampan.errors import UnavailableError
from sampan.services import RESTART_S
from sampan.wire.slack import TIMER_SLACK
from sampan.wire.status import from_rpc_error

_MAX_MESSAGE_BYTES: Final = 16 << 20

# A service that was killed is back within a second or two; trying again after a minute, gRPC's habit, would keep
# everyone waiting for nothing.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # An error with its details: beyond the first number gRPC gives up by chance, beyond the second always.
    ("grpc.max_metadata_size", 48 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # What gRPC calls so is how long one attempt may take. Somebody who listens answers it as soon as the machine lets
    # them; where nobody listens it fails at once.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    # An engine's socket is never behind a proxy, whatever http_proxy says.
    ("grpc.enable_http_proxy", 0),
    # Channels to one socket share nothing, so that a bulk stream does not hold up a small call.
    ("grpc.use_local_subchannel_pool", 1),
)

_GONE_S: Final = 0.5

# Is told of each call when it is over: its method, and how long it took.
Tell = Callable[[str, float], None]


def open_channel(socket: Path, tell: Tell | None = None, idle_s: float | None = None) -> grpc.aio.Channel:
    """Return a channel to a service; connects when first used. With nobody there, calls fail with UnavailableError.

    It disconnects after ``idle_s`` seconds without a call; None: gRPC's half an hour.
    """
    options = _OPTIONS if idle_s is None else (*_OPTIONS, ("grpc.client_idle_timeout_ms", int(idle_s * 1000)))
    told = None if tell is None else [kind(tell) for kind in (_ToldUnary, _ToldStream, _ToldInput, _ToldBoth)]
    channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options, interceptors=told)
    return _TracedChannel(channel) if tracing.is_on() else channel


class _TracedChannel(grpc.aio.Channel):
    """Tells the other side of every call, whichever side of it is a stream, which trace it is a part of.

    Around the channel and not an interceptor in it: an intercepted call whose requests are a stream takes them by way
    of a queue, and ends otherwise than one that is not.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def unary_unary(self, *about: Any, **named: Any) -> Any:
        return _traced(self._channel.unary_unary(*about, **named))

    def unary_stream(self, *about: Any, **named: Any) -> Any:
        return _traced(self._channel.unary_stream(*about, **named))

    def stream_unary(self, *about: Any, **named: Any) -> Any:
        return _traced(self._channel.stream_unary(*about, **named))

    def stream_stream(self, *about: Any, **named: Any) -> Any:
        return _traced(self._channel.stream_stream(*about, **named))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._channel.__aexit__(*raised)


def _traced(begin: Callable[..., Any]) -> Callable[..., Any]:
    def call(*request: Any, metadata: Any = None, **named: Any) -> Any:
        return begin(*request, metadata=grpc.aio.Metadata(*(metadata or ()), *tracing.carried().items()), **named)

    return call


class _Told:
    """Tells of each call when it is over."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    async def _told(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        begin, method = time.monotonic(), client_call_details.method
        name = (method.decode() if isinstance(method, bytes) else method).removeprefix("/")
        call = await continuation(client_call_details, request)

        call.add_done_callback(lambda _: self._tell(name, time.monotonic() - begin))
        return call


class _ToldUnary(_Told, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _Told._told


class _ToldStream(_Told, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _Told._told


class _ToldInput(_Told, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._told(continuation, client_call_details, request_iterator)


class _ToldBoth(_Told, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._told(continuation, client_call_details, request_iterator)


async def reach(channel: grpc.aio.Channel, service: str, deadline_s: float) -> None:
    """Return when there is a connection: at once, as a rule, and soon if the service is being restarted.

    Raises:
        UnavailableError: there is none by the deadline; the message names ``service``.
    """
    if channel.get_state() is grpc.ChannelConnectivity.READY:
        return
    TIMER_SLACK.narrow()  # the pauses between attempts are waited for by gRPC's threads
    try:
        async with asyncio.timeout(deadline_s):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)
    except TimeoutError:
        raise UnavailableError(f"service {service} does not answer: see `sampan status` and its log") from None


async def back(channel: grpc.aio.Channel, service: str) -> None:
    """Return when a service that has gone can be called again. UnavailableError if it does not come back."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):  # one that stops in order refuses calls for a moment before it goes
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    await reach(channel, service, RESTART_S)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Raise what the other side raised: wrap calls, and loops over streams, in this.

    Raises:
        SampanError: of the kind that the other side raised; ServiceGoneError if the connection broke.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
