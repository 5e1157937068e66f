"""A call is a part of its caller's span at the other side too, whichever side of it is a stream."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sampan import tracing
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.wire.channel import open_channel

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
export = pytest.importorskip("opentelemetry.sdk.trace.export")

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The spans of this process, which has both sides."""
    exporter, provider = memory.InMemorySpanExporter(), trace_sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_provider", provider)
    yield exporter
    provider.shutdown()


async def one(request: Any, context: Any) -> bytes:
    with tracing.span("work"):
        return b"".join([each async for each in request]) if hasattr(request, "__aiter__") else request


async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
    with tracing.span("work"):
        if not hasattr(request, "__aiter__"):
            yield request
            return
        async for each in request:
            yield each


async def written(request: Any, context: Any) -> None:
    async for each in many(request, context):
        await context.write(each)


@pytest.fixture
async def socket() -> AsyncIterator[Path]:
    """A service with a method of each kind, named as its kind is."""
    handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(one) for kind in KINDS[::2]}
    handlers |= {kind: getattr(grpc, f"{kind}_rpc_method_handler")(many) for kind in KINDS[1::2]}
    handlers["written"] = grpc.stream_stream_rpc_method_handler(written)
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", handlers)])
    with tempfile.TemporaryDirectory() as directory:  # a short path: a socket's has 107 bytes
        path = Path(directory) / "s"
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        yield path
        await server.stop(None)


async def ask(channel: grpc.aio.Channel, kind: str, method: str, *, writes: bool = False) -> bytes:
    """Call with what the kind takes, as an iterator or ``writes``; return what was answered."""
    begin: Any = getattr(channel, kind)(f"/s/{method}")

    async def requests() -> AsyncIterator[bytes]:
        for each in (b"a", b"b"):
            yield each

    if writes:
        call = begin(metadata=(("x", "y"),))
        await call.write(b"a")
        await call.write(b"b")
        await call.done_writing()
    else:
        call = begin(requests() if kind.startswith("stream") else b"ab", timeout=60)
    return b"".join([each async for each in call]) if kind.endswith("stream") else await call


def way(spans: Any, name: str) -> list[str]:
    """Return the names of a span and of those that it is a part of."""
    finished = spans.get_finished_spans()
    found = next(span for span in finished if span.name == name)
    names = [found.name]
    while found.parent is not None:
        found = next(span for span in finished if span.context.span_id == found.parent.span_id)
        names.append(found.name)
    return names


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_goes_on_with_its_callers_trace(kind: str, spans: Any, socket: Path) -> None:
    async with open_channel(socket) as channel:
        with tracing.span("client"):
            assert await ask(channel, kind, kind) == b"ab"
    assert way(spans, "work") == ["work", f"s/{kind}", "client"]


@pytest.mark.parametrize("method", ["stream_stream", "written"])
async def test_so_does_one_that_is_written_message_by_message(method: str, spans: Any, socket: Path) -> None:
    async with open_channel(socket) as channel:
        with tracing.span("client"):
            assert await ask(channel, "stream_stream", method, writes=True) == b"ab"
    assert way(spans, "work") == ["work", f"s/{method}", "client"]


async def test_a_call_out_of_no_span_begins_a_trace(spans: Any, socket: Path) -> None:
    async with open_channel(socket) as channel:
        assert await ask(channel, "stream_unary", "stream_unary") == b"ab"
    assert way(spans, "work") == ["work", "s/stream_unary"]


async def test_who_is_told_of_calls_is_told_where_they_are_traced(spans: Any, socket: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    async with open_channel(socket, lambda name, _: told.put_nowait(name)) as channel:
        with tracing.span("client"):
            assert await ask(channel, "stream_stream", "written") == b"ab"
        assert await told.get() == "s/written"
    assert way(spans, "work") == ["work", "s/written", "client"]


async def test_without_traces_nothing_is_around_a_channel(socket: Path) -> None:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as plain, open_channel(socket) as channel:
        assert type(channel) is type(plain)
        assert await ask(channel, "stream_stream", "stream_stream", writes=True) == b"ab"
