"""A pull as a person watches it: at a terminal, and in what Prometheus scrapes."""

import os
import threading
import urllib.request

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine
from tests.support.images import Entry, Image, layer, sha256, tar
from tests.support.terminal import at_terminal
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar
from tests.support.web_registry import run_web_registry

pytestmark = pytest.mark.skipif(TARGET is not None, reason="about this engine's own client and metrics")


def scraped(engine: Engine) -> str:
    with urllib.request.urlopen(engine.metrics_url("imaged"), timeout=60) as answer:
        return str(answer.read(), "utf-8")


@pytest.mark.parametrize("client", ["docker", "sampan"])
def test_bars_grow_and_gauges_with_them(engine: Engine, docker: DockerClient, client: str) -> None:
    large = layer(tar(Entry("large", os.urandom(16_000_000))), "none")
    assert isinstance(large.blob, bytes)
    digest = sha256(large.blob)
    with run_web_registry() as registry:
        name = registry.add(client, "1", Image([layer(busybox_tar()), large], BUSYBOX_CONFIG))
        registry.held[digest] = threading.Event()
        ours = client == "sampan"
        command, env = ([str(SAMPAN), "pull", name], engine.env()) if ours else (["docker", "pull", name], docker.env())
        with at_terminal(command, env, columns=120) as terminal:
            assert registry.reached.wait(60)
            shown = terminal.expect("MB/16")
            assert f"{digest[7:19]}: Downloading" in shown
            ratio = f'sampan_image_pull_progress_ratio{{image="{name}"}}'
            eventually(lambda: 0.2 < value(scraped(engine), ratio) < 1, "what has come is counted")
            text = scraped(engine)
            assert "sampan_image_pulls_in_flight 1.0" in text
            assert value(text, f'sampan_image_pull_left_seconds{{image="{name}"}}') != 0
            registry.held[digest].set()
            assert terminal.wait(60) == 0
        assert f"{digest[7:19]}: Pull complete" in terminal.seen
        assert f"Status: Downloaded newer image for {name}" in terminal.seen
    eventually(lambda: name not in scraped(engine), "it is no pull any more")
    docker("rmi", name)


def value(text: str, series: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{series} "))
    return float(line.rsplit(" ", 1)[1])
