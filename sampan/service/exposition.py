"""/metrics over HTTP, in the Prometheus text format."""

import errno
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.layout import Layout
from sampan.services import METRICS_PORTS


def new_registry() -> CollectorRegistry:
    """Return a registry that describes the process; services add their own metrics to it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which no dashboard reads
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Exposition:
    """The HTTP server, in a thread of its own; ``address`` is empty when there is none."""

    def __init__(self, registry: CollectorRegistry, setting: str, service: str, layout: Layout) -> None:
        self.address = ""
        self._server: WSGIServer | None = None
        if setting == "off":
            return
        host, port = _resolve(setting, service, layout)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(f"metrics address {host}:{port} is in use: set another one") from error
            raise InvalidArgumentError(f"metrics address {setting!r}: {error.strerror}") from error
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop serving; safe to repeat."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _resolve(setting: str, service: str, layout: Layout) -> tuple[str, int]:
    if setting == "auto":
        return "127.0.0.1", METRICS_PORTS.get(service, 0) if layout.is_default else 0
    host, colon, port = setting.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgumentError(f'metrics address {setting!r}: expected host:port, "auto" or "off"')
    return host or "0.0.0.0", int(port)
