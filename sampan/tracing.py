"""What a request does, as one trace through all services: OpenTelemetry's, sent by OTLP over HTTP.

It is off unless a service is told where traces go, and then nothing of OpenTelemetry is imported, and a span costs a
function call. The W3C's ``traceparent`` carries a trace into the engine, as a header of a client's request, and from
one service to the next, as metadata of their calls.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from sampan.errors import InvalidArgumentError
from sampan.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT: Final = "traceparent"

_DELAY_MS: Final = 1000  # how long a span waits for others to be sent with it
_TIMEOUT_S: Final = 5.0  # of sending, and so of what a stop may be held up by a collector that does not answer
_NOTHING: Final = nullcontext()

# Of the process, as its log is: whoever does something names it, and need not be handed where that is told.
_provider: "TracerProvider | None" = None


def start(service: str, endpoint: str) -> Callable[[], None]:
    """Send this process's traces to ``endpoint`` from now on; an empty one: send none. Return what ends that.

    Raises:
        InvalidArgumentError: it is no address of HTTP, or OpenTelemetry is not installed.
    """
    global _provider
    if not endpoint:
        return _forget
    if not endpoint.startswith(("http://", "https://")):
        raise InvalidArgumentError(f"traces: {endpoint!r} is no address like http://127.0.0.1:4318/v1/traces")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidArgumentError(f"traces: OpenTelemetry is not installed ({error}): sampan[tracing]") from None
    _provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "sampan", "service.version": VERSION})
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MS))
    return _forget


def _forget() -> None:
    """Send what waits, and trace no more."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def is_on() -> bool:
    """Whether anybody wants to know."""
    return _provider is not None


def span(name: str, carrier: Mapping[str, str] | None = None) -> AbstractContextManager[None]:
    """Tell how long the block takes and whether it fails, as a part of the span that it is in.

    ``carrier`` has the ``traceparent`` of whoever asked from elsewhere: the block is a part of that one's then.
    """
    return _NOTHING if _provider is None else _span(_provider, name, carrier)


@contextmanager
def _span(provider: "TracerProvider", name: str, carrier: Mapping[str, str] | None) -> Iterator[None]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = None if carrier is None else TraceContextTextMapPropagator().extract(carrier)
    kind = SpanKind.INTERNAL if carrier is None else SpanKind.SERVER
    with provider.get_tracer("sampan").start_as_current_span(name, context, kind):
        yield


def carried() -> Mapping[str, str]:
    """Return what a call to elsewhere carries, so that what happens there is a part of the span that this is in."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
