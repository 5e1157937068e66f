"""Every panel of the pods' dashboard has something to show, and the alerts are on what is exported."""

import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from sampan.api.cri.v1 import streaming_pb2 as st
from tests.support.dashboards import PODS, filled, panels, rules, series_of
from tests.support.engine import Engine
from tests.support.pods import Crid
from tests.support.prometheus import Prometheus, complaints, run_prometheus
from tests.support.tools import eventually, long_time, need

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="containernetworking-plugins is not installed"),
]

HEAD = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"


@contextmanager
def session(cri: Crid, container: str) -> Iterator[None]:
    """Have an exec under way until the block ends."""
    request = st.ExecRequest(container_id=container, cmd=["sleep", long_time()], stdout=True)
    url = urllib.parse.urlsplit(cri.runtime.Exec(request).url)
    with socket.create_connection((url.hostname or "", url.port or 0), 60) as connection:
        connection.sendall(f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n{HEAD}".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        yield


def work(cri: Crid, image: str, name: str) -> None:
    """Make a pod and take it away, and fail to make one."""
    sandbox = cri.run(cri.pod(name))
    cri.running(sandbox, cri.container("main", "sleep", long_time(), image=image))
    cri.remove(sandbox)
    with pytest.raises(grpc.RpcError):
        cri.run(cri.pod(f"{name}-bad", linux={"sysctls": {"net.nothing.of.the.kind": "1"}}))


@pytest.fixture(scope="module")
def prometheus(cri: Crid, engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen pods come and go."""
    need("prometheus")
    targets = [{"targets": [urllib.parse.urlsplit(engine.metrics_url("crid")).netloc]}]
    sandbox = cri.run(cri.pod("watched"))
    container = cri.running(sandbox, cri.container("main", "sleep", long_time(), image=image))
    try:
        with (
            run_prometheus(
                tmp_path_factory.mktemp("prometheus"), [{"job_name": "sampan", "static_configs": targets}], 1
            ) as running,
            session(cri, container),
        ):
            # A rate is between two scrapes: what is counted for the first time has none yet.
            for number in (1, 2):
                work(cri, image, f"done-{number}")
                seen = f"sum(sampan_cri_sandbox_failures_total) >= {number}"
                eventually(lambda seen=seen: bool(running.query(seen)), "it has been scraped")  # type: ignore[misc]
            yield running
    finally:
        cri.remove(sandbox)


@pytest.mark.parametrize(
    ("panel", "query"), [pytest.param(*each, id=f"{each[0]}: {each[1]}") for name, *each in panels() if name == PODS]
)
def test_every_panel_has_something_to_show(prometheus: Prometheus, panel: str, query: str) -> None:
    eventually(lambda: bool(prometheus.numbers(filled(query))), f"{panel} shows something: {query}")


def test_alerts_are_on_what_is_exported(prometheus: Prometheus, engine: Engine) -> None:
    with urllib.request.urlopen(engine.metrics_url("crid"), timeout=60) as answer:
        page: bytes = answer.read()
    assert complaints(page) == []
    described = set(re.findall(r"^# TYPE (\S+)", page.decode(), re.MULTILINE))
    expressions = [each for each in rules() if "sampan_cri_" in each]
    assert expressions
    for expression in expressions:
        prometheus.query(expression)  # raises if it is none
        assert series_of(expression) <= described, expression
