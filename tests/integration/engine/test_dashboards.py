"""Every panel has something to show: its queries are put to a Prometheus that has watched an engine at work.

The engine has containers of each kind, pulls, pushes, builds and collects garbage, and serves its registry. A query
that finds nothing then finds nothing at anybody's: a name that changed, a label that is not there.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import tomllib
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.services import STARTED
from tests.support.dashboards import PODS, filled, panels
from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.images import Entry, Image, layer, sha256, tar
from tests.support.prometheus import Prometheus, run_prometheus
from tests.support.tools import eventually, free_port
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar
from tests.support.web_registry import run_web_registry

pytestmark = [pytest.mark.root, pytest.mark.slow]

KNOWN = tomllib.loads((Path(__file__).parent / "known_dashboards.toml").read_text())["dashboards"]

BUSY = "while :; do dd if=/dev/zero of=/file bs=64k count=64 oflag=direct; dd if=/file of=/dev/null iflag=direct; done"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of the module's own, since every number of it counts."""
    with run_engine({"imaged": "retry_base_s = 0.05\n"}) as running:
        yield running


@pytest.fixture(scope="module")
def docker(engine: Engine, docker_config: Path) -> DockerClient:
    """The docker client."""
    return DockerClient(engine.host, docker_config)


@pytest.fixture(scope="module")
def registry(engine: Engine) -> Iterator[str]:
    """``sampan registry serve``, by the address that images are named with."""
    address = f"127.0.0.1:{free_port()}"
    command = [str(SAMPAN), "registry", "serve", "--listen", address]
    with engine.log.open("ab") as log:
        process = subprocess.Popen(command, env=engine.env(), stdout=log, stderr=log)
    try:
        eventually(engine.layout.state_file("registryd").exists, "the registry serves")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def prometheus(
    engine: Engine, docker: DockerClient, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has seen all of it."""
    targets = [
        {
            "targets": [urllib.parse.urlsplit(engine.metrics_url(service)).netloc],
            "labels": {"service": service},
        }
        for service in (*STARTED, "registryd")
    ]
    # Dashboards that know cAdvisor ask for its job; the other one is the whole engine as one target.
    whole = urllib.parse.urlsplit(engine.metrics_url("dockerapi")).netloc
    jobs = [
        {"job_name": "cadvisor", "static_configs": targets},
        {
            "job_name": "joined",
            "metrics_path": "/engine/metrics",
            "scrape_interval": "3s",
            "scrape_timeout": "3s",
            "static_configs": [{"targets": [whole]}],
        },
    ]
    directory = tmp_path_factory.mktemp("prometheus")
    with (
        run_prometheus(directory, jobs, len(targets) + 1) as running,
        containers(docker, directory),
        docker_events(docker),
    ):
        pull_slowly(engine, docker, running)
        images(docker, registry)
        requests = 'count by (job) (sampan_registry_requests_total{code="200"})'
        eventually(lambda: len(running.query(requests)) == 2, "the registry's first requests have been scraped")
        images(docker, registry)
        build(docker, directory)
        docker("system", "df")
        docker("rmi", "committed:1")
        engine.sampan("system", "gc")
        passes = 'count_over_time(sampan_gc_runs_total{trigger="request"}[20s]) > 1'
        eventually(lambda: bool(running.query(passes)), "what was done has been scraped twice")
        for job in ("cadvisor", "joined"):
            failed = f'increase(sampan_builds_total{{outcome="failed",job="{job}"}}[10s]) > 0'
            eventually(lambda failed=failed: bool(running.numbers(failed)), "builds, too, by both ways")  # type: ignore[misc]
        yield running


@contextlib.contextmanager
def containers(docker: DockerClient, directory: Path) -> Iterator[None]:
    """Have containers of every kind until the block ends."""
    root = directory / "root.tar"
    root.write_bytes(busybox_tar())
    docker("import", str(root), "app:1")
    # Since Linux 6.10 a cgroup of version 1 counts I/O only where some limit has made the kernel look.
    counted = ("--device-write-bps", f"{disk_of(directory)}:1gb")
    often = ("--health-interval", "1s", "--health-retries", "1")
    kinds: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "busy": (("--memory", "64m", "--cpus", "0.2", *counted), ("sh", "-c", BUSY)),
        "well": (("--health-cmd", "true", *often), ("sleep", "1000")),
        "ill": (("--health-cmd", "false", *often), ("sleep", "1000")),
        "paused": ((), ("sleep", "1000")),
        "again": (("--restart", "on-failure"), ("false",)),
        "done": ((), ("true",)),
        "failed": ((), ("sh", "-c", "exit 3")),
        "killed": (("--memory", "16m", "--memory-swap", "16m"), ("tail", "/dev/zero")),
        "created": ((), ()),
    }
    for name, (flags, command) in kinds.items():
        verb = ("create",) if name == "created" else ("run", "-d")
        docker(*verb, "--name", name, *flags, "app:1", *(command or ("true",)))
    docker("pause", "paused")
    docker("network", "create", "second")
    docker("network", "connect", "second", "well")
    docker(
        "exec",
        "well",
        "ping",
        "-c",
        "1",
        "-w",
        "60",
        docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "ill").line,
    )
    docker("diff", "failed")
    docker("commit", "failed", "committed:1")
    docker("info")
    docker("version")
    docker.fails("inspect", "nobody")
    yield
    docker("rm", "--force", *kinds)
    docker("network", "rm", "second")


def disk_of(path: Path) -> str:
    """Return the device that a path is on."""
    number = path.stat().st_dev
    uevent = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent").read_text()
    return f"/dev/{re.findall('DEVNAME=(.*)', uevent)[0]}"


@contextlib.contextmanager
def docker_events(docker: DockerClient) -> Iterator[None]:
    """Listen to events until the block ends."""
    listener = docker.start("events")
    try:
        yield
    finally:
        listener.send_signal(signal.SIGINT)
        listener.communicate(timeout=60)


def pull_slowly(engine: Engine, docker: DockerClient, prometheus: Prometheus) -> None:
    """Pull an image that takes some scrapes to come, and part of which is here."""
    large = layer(tar(Entry("large", os.urandom(8_000_000))), "none")
    assert isinstance(large.blob, bytes)
    with run_web_registry() as registry:
        docker("pull", "--quiet", registry.add("slow", "1", Image([layer(busybox_tar())], BUSYBOX_CONFIG)))
        name = registry.add("slow", "2", Image([layer(busybox_tar()), large], BUSYBOX_CONFIG))
        held = registry.held[sha256(large.blob)] = threading.Event()
        client = docker.start("pull", name)
        assert registry.reached.wait(60)
        # The whole engine is scraped more rarely than its services.
        both = "count(count by (job) (sampan_image_pull_left_seconds >= 0)) == 2"
        eventually(lambda: bool(prometheus.numbers(both)), "scrapes of both kinds have seen it on its way")
        held.set()
        assert client.wait(60) == 0
        client.communicate()
        docker("history", name)
        docker("rmi", name)


def images(docker: DockerClient, registry: str) -> None:
    """Push to the registry and pull from it, and ask it for what it does not have."""
    docker("tag", "app:1", f"{registry}/app:1")
    docker("push", f"{registry}/app:1")
    docker("rmi", f"{registry}/app:1")
    docker("pull", f"{registry}/app:1")
    assert docker.fails("pull", f"{registry}/nothing:1").code != 0
    docker("tag", "committed:1", f"{registry}/kept:1")
    docker("push", f"{registry}/kept:1")
    docker("rmi", f"{registry}/kept:1")


def build(docker: DockerClient, directory: Path) -> None:
    """Build twice, so that the cache has something, and once in vain."""
    context = directory / "context"
    context.mkdir()
    (context / "file").write_text("content\n")
    for dockerfile in ("RUN cat /file", "RUN cat /file", "RUN false"):
        (context / "Dockerfile").write_text(f"FROM app:1\nCOPY file /\n{dockerfile}\n")
        docker.fails("build", "--tag", "built:1", str(context), timeout=120)


@pytest.mark.parametrize("job", ["cadvisor", "joined"])
@pytest.mark.parametrize(
    ("dashboard", "panel", "query"),
    [pytest.param(*each, id=f"{each[0]}: {each[1]}: {each[2]}") for each in panels() if each[0] != PODS],
)
def test_every_panel_has_something_to_show(
    prometheus: Prometheus, dashboard: str, panel: str, query: str, job: str
) -> None:
    # What a scrape has just seen for the first time has a rate after the next one.
    eventually(lambda: bool(prometheus.numbers(filled(query, job))), f"{panel} of {dashboard} shows something: {query}")


@pytest.mark.parametrize(
    ("known", "query"),
    [pytest.param(known, query, id=f"{known['source']}: {query}") for known in KNOWN for query in known["queries"]],
)
def test_dashboards_that_people_have_find_what_they_ask_for(
    prometheus: Prometheus, known: dict[str, Any], query: str
) -> None:
    what = f"{known['name']} ({known['source']}) finds something: {query}"
    eventually(lambda: bool(prometheus.numbers(filled(query))), what)


def test_what_is_left_out_of_known_dashboards_is_about_the_machine() -> None:
    for known in KNOWN:
        for query in known["elsewhere"]:
            assert set(re.findall(r"\b(?:node|container|machine|engine)_\w+", query)), query
            assert "container_" not in query, query


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ('sampan_container_state{name="again"} == 1', "restarting"),
        ('sampan_container_state{name="paused"} == 1', "paused"),
        ('sampan_container_state{name="created"} == 1', "created"),
        ('sampan_container_health{name="well"} == 1', "healthy"),
        ('sampan_container_health{name="ill"} == 1', "unhealthy"),
    ],
)
def test_each_kind_of_container_is_told_from_the_others(prometheus: Prometheus, query: str, wanted: str) -> None:
    def found() -> set[str]:
        series = prometheus.query_range(query)
        return {each["metric"].get("state") or each["metric"].get("health") for each in series}

    eventually(lambda: wanted in found(), f"it is {wanted} at some time")


@pytest.mark.parametrize(("name", "code"), [("done", 0), ("failed", 3), ("killed", 137)])
def test_a_stopped_container_tells_its_exit_code(prometheus: Prometheus, name: str, code: int) -> None:
    exit_code = f'sampan_container_exit_code{{name="{name}"}}'
    eventually(lambda: bool(prometheus.numbers(exit_code)), "it is told")
    assert set(prometheus.numbers(exit_code)) == {code}
    assert set(prometheus.numbers(f'sampan_container_oom_killed{{name="{name}"}}')) == {float(name == "killed")}
