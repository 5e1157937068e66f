"""/metrics over HTTP, in the Prometheus text format."""

import errno
import os
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Final
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.layout import Layout
from sampan.services import METRICS_PORTS

# Yields families in the text format, each beginning with its HELP line.
Render = Callable[[], Iterable[str]]

METRICS_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Page:
    """What is served at a path of its own. ``render`` gets what makes the service's own metrics."""

    content_type: str
    render: Callable[[Callable[[], Iterable[bytes]]], Iterable[bytes]]


_MOST_AT_ONCE: Final = 4
_BACKLOG: Final = 16
_PATIENCE_S: Final = 10.0
_GZIP_WBITS: Final = 31


def new_metrics() -> CollectorRegistry:
    """Return what Prometheus collects: metrics of the process, to which services add their own."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which no dashboard reads
    metrics = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


class Exposition:
    """The HTTP server, in threads of its own; ``address`` is empty when there is none.

    An answer is written family by family, as fast as whoever asks reads, in the text format, packed if that is
    accepted. Of the event loop a scrape takes no more than its share of the interpreter.
    """

    def __init__(
        self,
        metrics: CollectorRegistry,
        series: Sequence[Render],
        setting: str,
        service: str,
        layout: Layout,
        pages: Mapping[str, Page] | None = None,
        passed: socket.socket | None = None,
    ) -> None:
        """Serve ``metrics`` and then ``series``, whose members are called in the threads; ``pages`` by their paths.

        ``passed`` is the socket to serve at if it listens already.
        """
        self.address = ""
        self._server: _Server | None = None
        self._app = _App(metrics, series, pages or {})
        listener = passed or listen(setting, service, layout)
        if listener is None:
            return
        self._server = _Server(listener, self._app)
        self._thread = threading.Thread(target=self._server.serve, name="metrics", daemon=True)
        self._thread.start()
        self.address = address_of(listener)

    @property
    def asked_at(self) -> float:
        """The monotonic time in seconds at which somebody has asked last; 0: nobody has."""
        return self._app.asked_at

    def close(self) -> None:
        """Stop serving; safe to repeat."""
        if self._server is not None:
            self._server.end()
            self._thread.join()
            self._server.server_close()
            self._server = None


def listen(setting: str, service: str, layout: Layout) -> socket.socket | None:
    """Return a socket that listens where ``setting`` says that ``service`` tells its metrics; None: nowhere.

    Raises:
        InvalidArgumentError: that is no address of this machine.
        UnavailableError: somebody else listens there.
    """
    if setting == "off":
        return None
    host, port = _resolve(setting, service, layout)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(f"metrics address {host}:{port} is in use: set another one") from error
        raise InvalidArgumentError(f"metrics address {setting!r}: {error.strerror}") from error


def address_of(listener: socket.socket) -> str:
    """Return host:port of a socket that listens."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


class _Server(ThreadingMixIn, WSGIServer):
    """A thread per scrape. ``serve`` instead of ``serve_forever``, which looks twice a second whether it is to end."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, app: "_App") -> None:
        host, port = listener.getsockname()[:2]
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = str(host), int(port)  # what server_bind would have set, but for a lookup
        self.setup_environ()
        self.set_app(app)
        self._told = os.eventfd(0, os.EFD_CLOEXEC)

    def serve(self) -> None:
        """Let in who connects until ``end`` is called."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self._told, select.POLLIN)
        while all(fd != self._told for fd, _ in poll.poll()):
            self._handle_request_noblock()  # type: ignore[attr-defined]  # what serve_forever calls, too

    def end(self) -> None:
        """Have ``serve`` return."""
        os.eventfd_write(self._told, 1)

    def server_close(self) -> None:
        super().server_close()
        os.close(self._told)


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S  # of every read and write: who does not read on is given up

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class _App:
    """The WSGI application: any path that is no other page's is /metrics, as in Prometheus' own client."""

    def __init__(self, metrics: CollectorRegistry, series: Sequence[Render], pages: Mapping[str, Page]) -> None:
        self._metrics = metrics
        self._series = series
        self._pages = pages
        self._slots = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self.asked_at = 0.0

    def __call__(self, environ: Mapping[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
        self.asked_at = time.monotonic()
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET"), ("Content-Type", "text/plain")])
            return [b"only GET is allowed\n"]
        if not self._slots.acquire(blocking=False):
            start_response("503 Service Unavailable", [("Retry-After", "5"), ("Content-Type", "text/plain")])
            return [b"too many scrapes at once\n"]
        wanted = frozenset(parse_qs(environ.get("QUERY_STRING", "")).get("name[]", ()))
        page = self._pages.get(environ.get("PATH_INFO", ""), Page(METRICS_TYPE, lambda _: self._chunks(wanted)))
        headers = [("Content-Type", page.content_type)]
        packed = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
        if packed:
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        chunks = iter(page.render(lambda: self._chunks(frozenset())))
        return _Answer(chunks, self._slots.release, packed=packed)

    def _chunks(self, wanted: frozenset[str]) -> Iterator[bytes]:
        metrics = self._metrics.restricted_registry(wanted) if wanted else self._metrics
        yield generate_latest(metrics)
        for render in self._series:
            for family in render():
                if not wanted or family.split(" ", 3)[2] in wanted:  # "# HELP <name> …"
                    yield family.encode(errors="replace")


class _Answer:
    """The body, whose ``close`` WSGI servers call in any case."""

    def __init__(self, chunks: Iterator[bytes], done: Callable[[], None], *, packed: bool) -> None:
        self._chunks = _gzipped(chunks) if packed else chunks
        self._done = done

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Let the next one in."""
        self._done()


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(1, wbits=_GZIP_WBITS)
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()


def _resolve(setting: str, service: str, layout: Layout) -> tuple[str, int]:
    if setting == "auto":
        return "127.0.0.1", METRICS_PORTS.get(service, 0) if layout.is_default else 0
    host, colon, port = setting.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgumentError(f'metrics address {setting!r}: expected host:port, "auto" or "off"')
    return host or "0.0.0.0", int(port)
