"""A real Prometheus reads what every service exports, and finds nothing to complain about."""

import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sampan.services import METRICS_PORTS, STARTED
from tests.support.dashboards import rules, series_of
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.prometheus import Prometheus, complaints, run_prometheus
from tests.support.tools import eventually, need
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root

DEPLOYED = Path(__file__).parents[3] / "deploy/prometheus"


@pytest.fixture(scope="module")
def busy_engine(engine: Engine, docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The shared engine with one container that computes, so that there is something to see."""
    tar = tmp_path_factory.mktemp("root") / "root.tar"
    tar.write_bytes(busybox_tar())
    docker("import", str(tar), "busybox:metrics")
    script = "while :; do :; done"
    docker("run", "-d", "--name", "busy", "--label", "team=a", "--memory", "64m", "busybox:metrics", "sh", "-c", script)
    yield engine
    docker("rm", "--force", "busy")


@pytest.fixture(scope="module")
def prometheus(busy_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes all services once a second."""
    jobs = [
        {
            "job_name": service,
            "static_configs": [{"targets": [urllib.parse.urlsplit(busy_engine.metrics_url(service)).netloc]}],
        }
        for service in STARTED
    ]
    with run_prometheus(tmp_path_factory.mktemp("prometheus"), jobs, len(STARTED)) as running:
        yield running


@pytest.mark.parametrize("service", STARTED)
def test_exposition_passes_promtool(busy_engine: Engine, service: str) -> None:
    assert busy_engine.pid(service)  # has one start that waits until it is asked
    with urllib.request.urlopen(busy_engine.metrics_url(service), timeout=60) as answer:
        assert complaints(answer.read()) == []


@pytest.mark.parametrize("service", ["imaged", "snapshotter", "runtimed"])
def test_calls_are_counted_under_the_usual_names(prometheus: Prometheus, service: str) -> None:
    for name in ("grpc_server_started_total", "grpc_server_handled_total", "grpc_server_handling_seconds_count"):
        samples = prometheus.found(f'{name}{{job="{service}"}}')
        assert {"grpc_type", "grpc_service", "grpc_method"} <= set(samples[0]["metric"])
    assert "OK" in {sample["metric"]["grpc_code"] for sample in prometheus.found("grpc_server_handled_total")}


@pytest.mark.parametrize(
    ("expression", "at_least"),
    [
        ('container_cpu_usage_seconds_total{name="busy",cpu="total"}', 0.1),
        ('container_memory_usage_bytes{name="busy"}', 10_000),
        ('container_memory_working_set_bytes{name="busy"}', 10_000),
        ('container_spec_memory_limit_bytes{name="busy"}', 64 << 20),
        ('container_network_receive_bytes_total{name="busy",interface="eth0"}', 0),
        ('container_network_transmit_bytes_total{name="busy",interface="eth0"}', 0),
        ('container_last_seen{name="busy"}', 1_000_000_000),
        ('container_start_time_seconds{name="busy"}', 1_000_000_000),
        ("machine_cpu_cores", 1),
        ("machine_memory_bytes", 1 << 28),
        ('container_cpu_usage_seconds_total{id="/"}', 0.1),
    ],
)
def test_container_series_have_cadvisor_s_names(prometheus: Prometheus, expression: str, at_least: float) -> None:
    def values() -> list[float]:
        return [float(sample["value"][1]) for sample in prometheus.query(expression)]

    eventually(lambda: any(value >= at_least for value in values()), f"{expression} is {at_least} and more")


def test_container_series_say_whose_they_are(prometheus: Prometheus, docker: DockerClient) -> None:
    (sample,) = prometheus.found('container_memory_working_set_bytes{name="busy"}')
    identity = docker("inspect", "--format", "{{.Id}}", "busy").line
    assert sample["metric"]["id"].endswith(identity)
    assert sample["metric"]["image"] == "busybox:metrics"
    labels = "on(id) group_left(container_label_team) sampan_container_info"
    (joined,) = prometheus.found(f'container_memory_working_set_bytes{{name="busy"}} * {labels}')
    assert joined["metric"]["container_label_team"] == "a"


def test_cpu_seconds_grow(prometheus: Prometheus) -> None:
    expression = 'container_cpu_usage_seconds_total{name="busy",cpu="total"}'

    def value() -> float:
        return float(prometheus.found(expression)[0]["value"][1])

    first = value()
    eventually(lambda: value() > first, "the counter has grown")


def test_no_histogram_has_an_id_as_a_label(prometheus: Prometheus) -> None:
    for sample in prometheus.query('{__name__=~".+_bucket"}'):
        assert not {"id", "container", "container_id", "digest", "name"} & set(sample["metric"]), sample


def test_series_of_a_removed_container_end(
    prometheus: Prometheus, docker: DockerClient, busy_engine: Engine, unique: Callable[[str], str]
) -> None:
    name = unique("gone")
    docker("run", "--rm", "--name", name, "busybox:metrics", "true")
    url = busy_engine.metrics_url("runtimed")

    def exported() -> bool:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return f'name="{name}"' in answer.read().decode()

    eventually(lambda: not exported(), "the series are gone")


def test_deployed_configuration_scrapes_the_default_engine_and_alerts_on_what_is_exported(
    prometheus: Prometheus, busy_engine: Engine
) -> None:
    need("promtool")
    checked = subprocess.run(["promtool", "check", "config", DEPLOYED / "prometheus.yml"], capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    targets = re.findall(r'"127\.0\.0\.1:(\d+)"', (DEPLOYED / "prometheus.yml").read_text())
    assert [int(port) for port in targets] == list(METRICS_PORTS.values())
    exported = ""
    for service in STARTED:
        with urllib.request.urlopen(busy_engine.metrics_url(service), timeout=60) as answer:
            exported += answer.read().decode()
    described = set(re.findall(r"^# TYPE (\S+)", exported, re.MULTILINE)) | {"up"}
    expressions = [each for each in rules() if "sampan_cri_" not in each]
    assert expressions
    for expression in expressions:
        prometheus.query(expression)  # raises if it is none
        assert series_of(expression) <= described, expression


def read(engine: Engine, path: str) -> bytes:
    """Return a page of dockerapi's metrics address."""
    address = urllib.parse.urlsplit(engine.metrics_url("dockerapi")).netloc
    with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
        content: bytes = answer.read()
        return content


def test_one_page_has_the_whole_engine(busy_engine: Engine) -> None:
    for service in STARTED:
        assert busy_engine.pid(service)  # has those run that wait until they are asked
    page = read(busy_engine, "/engine/metrics")
    assert complaints(page) == []
    for service in STARTED:
        assert f'sampan_service_up{{service="{service}"}} 1' in page.decode()
        assert f'process_start_time_seconds{{service="{service}"}}' in page.decode()


def test_targets_are_discovered(busy_engine: Engine, tmp_path: Path) -> None:
    address = urllib.parse.urlsplit(busy_engine.metrics_url("dockerapi")).netloc
    for service in STARTED:
        assert busy_engine.pid(service)
    jobs = [{"job_name": "found", "http_sd_configs": [{"url": f"http://{address}/engine/targets"}]}]
    with run_prometheus(tmp_path, jobs, len(STARTED)) as running:
        eventually(
            lambda: {each["metric"]["service"] for each in running.query("up == 1")} == set(STARTED), "all are found"
        )


def test_scrapes_while_containers_come_and_go_are_whole(busy_engine: Engine, docker: DockerClient) -> None:
    left = 3  # scrapes that are to meet them

    def churn(number: int) -> None:
        lives = 0
        while lives < 5 or left > 0:
            lives += 1
            docker("run", "--rm", "--network", "none", "--name", f"churn-{number}", "busybox:metrics", "true")

    with ThreadPoolExecutor(4) as threads:
        lives = [threads.submit(churn, number) for number in range(4)]
        try:
            while not all(life.done() for life in lives):
                assert complaints(read(busy_engine, "/engine/metrics")) == []
                left -= 1
        finally:
            left = 0
        for life in lives:
            life.result()


def test_labels_of_any_content_leave_the_exposition_whole(busy_engine: Engine, docker: DockerClient) -> None:
    labels = [
        os.fsdecode(b'odd=quote " backslash \\ line\nend \xff\xfe'),
        'od"d\nkey=x',
        'com.docker.compose.project=a"b\\c\nd',
    ]
    labels += [f"many{number}=value" for number in range(500)]
    flags = [word for label in labels for word in ("--label", label)]
    docker("run", "-d", "--name", "odd", *flags, "busybox:metrics", "sleep", "1000")
    try:
        page = read(busy_engine, "/engine/metrics")
    finally:
        docker("rm", "--force", "odd")
    assert complaints(page) == []
    families = text_string_to_metric_families(page.decode())
    found = {
        sample.name: sample.labels
        for family in families
        for sample in family.samples
        if sample.labels.get("name") == "odd"
    }
    assert found["container_last_seen"]["container_label_com_docker_compose_project"] == 'a"b\\c\nd'
    told = [label for label in found["sampan_container_info"] if label.startswith("container_label_")]
    assert len(told) == 64
    (left_out,) = re.findall(r'sampan_container_labels_left_out{.*reason="per_container"} (\S+)', page.decode())
    assert float(left_out) == len(labels) - 64
