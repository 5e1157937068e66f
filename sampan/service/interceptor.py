"""What happens around every gRPC method: metrics, a request id for the logs, and errors on their way out."""

import bisect
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from sampan import tracing
from sampan.errors import InternalError, SampanError
from sampan.log import log
from sampan.wire.status import DETAILS_KEY, REASON_KEY, REFUSAL_KEY, ForeignError, explained, wire_for

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_KINDS = {
    (False, False): "unary",
    (False, True): "server_stream",
    (True, False): "client_stream",
    (True, True): "bidi_stream",
}
_MOST_BYTES = 4096  # of metadata: gRPC takes 8 KiB in all
_AS_THEY_ARE = frozenset(range(0x20, 0x7F)) - {ord("%")}  # bytes of a message; gRPC writes three for each other one
_SENDING = frozenset(kind for (sends, _), kind in _KINDS.items() if sends)


class RpcMetrics:
    """The ``grpc_server_*`` series, under the names that go-grpc-prometheus made common."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        labels = ["grpc_type", "grpc_service", "grpc_method"]
        self._started = Counter("grpc_server_started", "RPCs started.", labels, registry=metrics)
        self._handled = Counter(
            "grpc_server_handled", "RPCs ended, by status code.", [*labels, "grpc_code"], registry=metrics
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Time from start to end of an RPC.", labels, registry=metrics
        )

    def start(self, labels: tuple[str, str, str]) -> Callable[[str], None]:
        """Count a start; the function returned counts the end, with the code's name as gRPC documents it."""
        self._started.labels(*labels).inc()
        begin = time.monotonic()

        def end(code: str) -> None:
            self._handled.labels(*labels, code).inc()
            self._seconds.labels(*labels).observe(time.monotonic() - begin)

        return end


class Interceptor(grpc.aio.ServerInterceptor):
    """Wrap every handler once; servicers know nothing of it."""

    def __init__(self, metrics: RpcMetrics, used: Callable[[], None] = lambda: None) -> None:
        """``used`` is called as a method begins and ends."""
        self._metrics = metrics
        self._used = used

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the method's handler with everything around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        streams = (handler.request_streaming, handler.response_streaming)
        labels = (_KINDS[streams], service, method)
        inner: Any = _inner(handler)
        outer: Any = self._stream(inner, labels) if handler.response_streaming else self._unary(inner, labels)
        wrap: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[streams]
        wrapped: Handler = wrap(outer, handler.request_deserializer, handler.response_serializer)
        return wrapped

    def _unary(self, inner: Any, labels: tuple[str, str, str]) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._around(labels, context):
                return await inner(request, context)

        return call

    def _stream(self, inner: Any, labels: tuple[str, str, str]) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async with self._around(labels, context):
                answer = inner(request, context)
                if not hasattr(answer, "__aiter__"):
                    await answer  # a handler that calls context.write itself
                    return
                try:
                    async for message in answer:
                        yield message
                finally:
                    # A client that goes away ends this generator at the yield; the handler's own clean-up must
                    # not wait for the garbage collector.
                    await answer.aclose()

        return call

    @asynccontextmanager
    async def _around(
        self, labels: tuple[str, str, str], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[None]:
        end = self._metrics.start(labels)
        self._used()
        code = "Unknown"
        request_id = _request_id(context)
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id, method=labels[2]),
            _span(labels, context),
        ):
            try:
                yield
                code = _code_name(context.code() or grpc.StatusCode.OK)
            except grpc.aio.AbortError:
                code = _code_name(context.code() or grpc.StatusCode.UNKNOWN)
                raise
            except Exception as raised:
                error = explained(raised)
                if not isinstance(error, SampanError):
                    log.exception("request failed")
                    error = InternalError(f"internal error (request {request_id})")
                elif isinstance(error, InternalError):  # its bug is in the log of the service that this one asked
                    log.error("request failed by another service", error=str(error))
                wire, words = wire_for(error), _bounded(str(error))
                code = _code_name(wire.code)
                log.debug("request refused", reason=wire.reason, error=words)
                if labels[0] in _SENDING:
                    await _refuse_early(context, wire.reason, words)
                details = ((DETAILS_KEY, error.details),) if isinstance(error, ForeignError) and error.details else ()
                await context.abort(wire.code, words, ((REASON_KEY, wire.reason), *details))
            except BaseException:  # cancelled, or the client left in the middle of a stream
                code = _code_name(grpc.StatusCode.CANCELLED)
                raise
            finally:
                end(code)
                self._used()


def _span(
    labels: tuple[str, str, str], context: grpc.aio.ServicerContext[Any, Any]
) -> contextlib.AbstractContextManager[None]:
    if not tracing.is_on():
        return tracing.span("")
    carrier = {key: str(value) for key, value in context.invocation_metadata() or () if key == tracing.TRACEPARENT}
    return tracing.span(f"{labels[1]}/{labels[2]}", carrier)


def _bounded(words: str) -> str:
    """Return what can travel as metadata: a stranger's text in it may be of any length and hold anything."""
    encoded = words.encode(errors="replace")
    # Of what is longer, more than can travel is enough to look at.
    ends = list(itertools.accumulate(1 if byte in _AS_THEY_ARE else 3 for byte in encoded[: _MOST_BYTES + 1]))
    if not ends or ends[-1] <= _MOST_BYTES:
        return encoded.decode()
    mark = "…"
    return encoded[: bisect.bisect_right(ends, _MOST_BYTES - 3 * len(mark.encode()))].decode(errors="ignore") + mark


async def _refuse_early(context: grpc.aio.ServicerContext[Any, Any], reason: str, words: str) -> None:
    """Say it in the initial metadata too: a client that is sending when the call ends never sees how it ended."""
    with contextlib.suppress(grpc.aio.UsageError):  # they are out already
        await context.send_initial_metadata(((REASON_KEY, reason), (REFUSAL_KEY, words.encode()[:_MOST_BYTES])))


def _inner(handler: "Handler") -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "sampan-request-id":
            return str(value)
    return uuid.uuid4().hex[:12]


def _code_name(code: Any) -> str:
    """``FAILED_PRECONDITION`` -> ``FailedPrecondition``, the spelling that dashboards expect."""
    if isinstance(code, int):
        code = next(c for c in grpc.StatusCode if c.value[0] == code)
    return "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "")
