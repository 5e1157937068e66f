"""One trace from a client's request to the OCI runtime, and nothing at all where none is wanted."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sampan import tracing
from sampan.errors import InvalidArgumentError
from sampan.services import STARTED
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import Engine, run_engine
from tests.support.tools import eventually
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass(slots=True)
class Collector:
    """What has come, as (service, name, span, parent) of the trace that the tests begin."""

    url: str = ""
    spans: list[tuple[str, str, str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of OTLP over HTTP."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                sent = gzip.decompress(sent)
            for group in service.ExportTraceServiceRequest.FromString(sent).resource_spans:
                names = {each.key: each.value.string_value for each in group.resource.attributes}
                collector.spans += [
                    (names["service.name"], span.name, span.span_id.hex(), span.parent_span_id.hex())
                    for scope in group.scope_spans
                    for span in scope.spans
                    if span.trace_id.hex() == TRACE
                ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield collector
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[Engine]:
    """An engine that tells the collector."""
    with run_engine(dict.fromkeys(STARTED, f'traces = "{collector.url}"\n')) as running:
        yield running


def test_a_start_is_one_trace_from_the_request_to_the_runtime(
    traced: Engine, collector: Collector, docker_config: Path, tmp_path: Path
) -> None:
    docker = DockerClient(traced.host, docker_config)
    (tmp_path / "root.tar").write_bytes(busybox_tar())
    docker("import", str(tmp_path / "root.tar"), "app:1")
    docker("create", "--name", "seen", "app:1", "true")
    connection = UnixConnection(traced.layout.docker_socket)
    connection.request("POST", "/containers/seen/start", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert connection.getresponse().status == 204
    connection.close()
    wanted = {
        ("dockerapi", "POST /containers/{id}/start"),
        ("runtimed", "sampan.runtime.v1.Containers/Start"),
        ("runtimed", "start: prepare"),
        ("runtimed", "start: create"),
        ("runtimed", "start: start"),
    }
    eventually(lambda: wanted <= {span[:2] for span in collector.spans}, "all of it has come")
    (create,) = (span for span in collector.spans if span[1] == "start: create")

    def way(span: tuple[str, str, str, str]) -> list[str]:
        parent = next((other for other in collector.spans if other[2] == span[3]), None)
        return [span[1], *(way(parent) if parent else [])]

    eventually(lambda: way(create)[-1] == "POST /containers/{id}/start", "the way to it is known")
    assert "sampan.runtime.v1.Containers/Start" in way(create)


def test_an_engine_does_not_wait_for_a_collector_that_is_away(collector: Collector, docker_config: Path) -> None:
    with run_engine(dict.fromkeys(STARTED, 'traces = "http://127.0.0.1:1/v1/traces"\n')) as running:
        docker = DockerClient(running.host, docker_config)
        assert docker("version", "--format", "{{.Server.Version}}", timeout=60).line


def test_without_it_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; from sampan import tracing; from sampan.service import harness; end = tracing.start('x', ''); "
        "print(tracing.span('a') is tracing.span('b'), any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317"])
def test_what_is_no_address_of_http_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no address like"):
        tracing.start("x", endpoint)
