"""One trace from a client's request to the OCI runtime, and nothing at all where none is wanted."""

import gzip
import io
import json
import secrets
import subprocess
import sys
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

import pytest

from sampan import tracing
from sampan.errors import InvalidArgumentError
from sampan.services import STARTED
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import Engine, run_engine
from tests.support.tools import eventually
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

Span: TypeAlias = tuple[str, str, str, str]  # service, name, ID, the parent's ID


@dataclass(slots=True)
class Collector:
    """What has come, by trace."""

    url: str = ""
    spans: defaultdict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))

    def way(self, trace: str, name: str) -> list[str]:
        """Return the names of a span and of those that it is a part of; none as long as it has not come."""
        spans = list(self.spans[trace])
        span = next((span for span in spans if span[1] == name), None)
        names = []
        while span is not None:
            names.append(span[1])
            span = next((other for other in spans if other[2] == span[3]), None)
        return names

    def wait(self, trace: str, name: str, beginning: str) -> list[str]:
        """Return the way to a span when all of it has come."""
        eventually(lambda: self.way(trace, name)[-1:] == [beginning], f"the way to {name} is known")
        return self.way(trace, name)


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
                for span in (span for scope in group.scope_spans for span in scope.spans):
                    one = (names["service.name"], span.name, span.span_id.hex(), span.parent_span_id.hex())
                    collector.spans[span.trace_id.hex()].append(one)
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


@pytest.fixture
def trace() -> str:
    """The ID of a trace that a client begins."""
    return secrets.token_hex(16)


def ask(engine: Engine, trace: str, path: str, body: object = None, sent: bytes = b"") -> bytes:
    """Post to the Docker API as a part of a trace."""
    connection = UnixConnection(engine.layout.docker_socket)
    kind = "application/x-tar" if sent else "application/json"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "Content-Type": kind}
    connection.request("POST", path, sent or json.dumps(body), headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status < 300, said
    connection.close()
    return said


@pytest.fixture(scope="module")
def docker(traced: Engine, docker_config: Path, tmp_path_factory: pytest.TempPathFactory) -> DockerClient:
    """A client of the engine, which has an image and a container that runs."""
    docker = DockerClient(traced.host, docker_config)
    root = tmp_path_factory.mktemp("root") / "root.tar"
    root.write_bytes(busybox_tar())
    docker("import", "--change", "ENV PATH=/bin", str(root), "app:1")
    docker("run", "--detach", "--name", "runs", "--network", "none", "app:1", "sleep", "1000")
    return docker


def test_a_start_is_one_trace_from_the_request_to_the_runtime(
    traced: Engine, collector: Collector, docker: DockerClient, trace: str
) -> None:
    docker("create", "--name", "seen", "app:1", "true")
    ask(traced, trace, "/containers/seen/start")
    for phase in ("start: prepare", "start: create", "start: start"):
        way = collector.wait(trace, phase, "POST /containers/{id}/start")
        assert "sampan.runtime.v1.Containers/Start" in way


@pytest.mark.parametrize("detach", [False, True])
def test_so_is_an_exec(traced: Engine, collector: Collector, docker: DockerClient, trace: str, detach: bool) -> None:
    asked = {"Cmd": ["true"], "AttachStdout": not detach}
    exec_id = json.loads(ask(traced, trace, "/containers/runs/exec", asked))["Id"]
    ask(traced, trace, f"/exec/{exec_id}/start", {"Detach": detach})
    assert "sampan.runtime.v1.Execs/Start" in collector.wait(trace, "exec: start", "POST /exec/{id}/start")


def test_so_is_a_build(traced: Engine, collector: Collector, docker: DockerClient, trace: str) -> None:
    sent = io.BytesIO()
    with tarfile.open(fileobj=sent, mode="w") as context:
        dockerfile = b"FROM app:1\nRUN --network=none echo built > /built\n"
        about = tarfile.TarInfo("Dockerfile")
        about.size = len(dockerfile)
        context.addfile(about, io.BytesIO(dockerfile))
    assert b"errorDetail" not in ask(traced, trace, "/build?version=1", sent=sent.getvalue())
    for phase in ("step: prepare", "step: run"):
        way = collector.wait(trace, phase, "POST /build")
        assert {"sampan.runtime.v1.Steps/Run", "moby.buildkit.v1.Control/Solve"} <= set(way)
    services = {"dockerapi", "buildd", "runtimed", "snapshotter", "imaged"}
    eventually(lambda: services <= {span[0] for span in collector.spans[trace]}, "every service has told its part")


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
