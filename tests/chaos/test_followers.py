"""Clients that follow something while runtimed is killed, time and again: they miss nothing and hear nothing twice."""

import errno
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine
from tests.support.tools import eventually, free_port

pytestmark = [pytest.mark.root, pytest.mark.slow]

Start = Callable[..., subprocess.Popen[bytes]]

# Longer than two kills take, and then a last word. It begins when all have come who are to hear it.
_STORY = """
    until [ -e /begin ]; do sleep 0.05; done
    i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo $i; echo e$i >&2; sleep 0.1; done; exit 7
"""


@pytest.fixture(params=("docker", "sampan"))
def start(request: pytest.FixtureRequest, engine: Engine, docker: DockerClient) -> Start:
    """Starts a client, of either kind."""
    if request.param == "docker":
        return docker.start

    def sampan(*arguments: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([SAMPAN, *arguments], stdout=pipe, stderr=pipe, env=engine.env())

    return sampan


@contextmanager
def following(start: Start, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    client = start(*arguments)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def calls_begun(engine: Engine, *methods: str) -> float:
    """Return how many calls of these methods have begun in the runtimed that runs."""
    with urllib.request.urlopen(engine.metrics_url("runtimed"), timeout=60) as answer:
        lines = str(answer.read(), "utf-8").splitlines()
    begun = (line for line in lines if line.startswith("grpc_server_started_total{"))
    ours = (line for line in begun if any(f'grpc_method="{method}"' in line for method in methods))
    return sum(float(line.split()[-1]) for line in ours)


def test_logs_and_wait(
    engine: Engine, docker: DockerClient, image: str, start: Start, unique: Callable[[str], str]
) -> None:
    name = unique("told")
    docker("run", "--detach", "--name", name, image, "sh", "-c", _STORY)
    before = calls_begun(engine, "Logs", "Wait")
    with (
        following(start, "logs", "--follow", name) as logs,
        following(start, "logs", "--follow", "--tail", "0", name) as new,
        following(start, "wait", name) as wait,
    ):
        eventually(lambda: calls_begun(engine, "Logs", "Wait") >= before + 3, "all follow")
        docker("exec", name, "touch", "/begin")
        for _ in range(2):
            time.sleep(0.5)  # what is followed goes on for a while
            engine.kill("runtimed")
        output, errors = logs.communicate(timeout=60)
        assert output.decode().splitlines() == [str(number) for number in range(1, 51)]
        assert errors.decode().splitlines() == [f"e{number}" for number in range(1, 51)]
        assert logs.returncode == 0
        last, _ = new.communicate(timeout=60)
        assert last == output
        assert wait.communicate(timeout=60)[0] == b"7\n"
    docker("rm", name)


def test_wait_for_one_that_ends_and_goes_while_nobody_watches(
    engine: Engine, docker: DockerClient, image: str, start: Start, unique: Callable[[str], str]
) -> None:
    name = unique("gone")
    docker(
        "run",
        "--detach",
        "--rm",
        "--name",
        name,
        image,
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    )
    eventually(lambda: docker("logs", name).line == "ready", "it listens")
    first = int(docker("inspect", "--format", "{{.State.Pid}}", name).line)
    before = calls_begun(engine, "Wait")
    with following(start, "wait", name) as wait:
        eventually(lambda: calls_begun(engine, "Wait") > before, "it waits")
        os.kill(engine.pid("runtimed"), signal.SIGSTOP)
        os.kill(first, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{first}").exists(), "it has ended")
        engine.kill("runtimed")
        assert wait.communicate(timeout=60)[0] == b"9\n"
    eventually(lambda: docker.fails("inspect", name).code != 0, "it is removed")


def test_events(engine: Engine, docker: DockerClient, image: str, start: Start, unique: Callable[[str], str]) -> None:
    names = [unique("told") for _ in range(3)]
    # The client may come later than the first of them.
    since = f"{time.time():.6f}"
    with following(start, "events", "--since", since, "--filter", "event=create", "--format", "json") as events:
        assert events.stdout is not None
        docker("create", "--name", names[0], image)
        told = [json.loads(events.stdout.readline())]
        for name in names[1:]:
            engine.kill("runtimed")
            docker("create", "--name", name, image)
            # Read before the next kill, which may come before an event is in the journal.
            told.append(json.loads(events.stdout.readline()))
        assert [event["Actor"]["Attributes"]["name"] for event in told] == names
    docker("rm", *names)


def test_an_attachment_says_that_it_broke_off(
    engine: Engine, docker: DockerClient, image: str, start: Start, unique: Callable[[str], str]
) -> None:
    name = unique("cut")
    docker("run", "--detach", "--name", name, image, "sh", "-c", "while :; do echo on; sleep 0.1; done")
    with following(start, "attach", "--no-stdin", "--sig-proxy=false", name) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == b"on\n"
        engine.kill("runtimed")
        _, errors = attached.communicate(timeout=60)
        assert attached.returncode != 0
        assert b"went away" in errors or b"the connection to the engine is lost" in errors
    docker("rm", "--force", name)


def test_a_published_port_that_is_carried_refuses_nobody_while_runtimed_is_away(
    engine: Engine, docker: DockerClient, image: str, unique: Callable[[str], str]
) -> None:
    name, port = unique("carried"), free_port()
    docker("run", "-d", "--name", name, "-p", f"[::1]:{port}:80", image, "httpd", "-f", "-p", "80", "-h", "/etc")

    def fetch() -> bool:
        with socket.create_connection(("::1", port), timeout=60) as client:
            client.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
            return bool(client.recv(100))

    def answers() -> bool:
        with suppress(OSError):  # the port is open before somebody listens behind it
            return fetch()
        return False

    try:
        eventually(answers, "the port answers")
        for _ in range(3):
            before, tries = engine.pid("runtimed"), 0
            os.kill(before, signal.SIGKILL)
            while engine.pid("runtimed") == before or tries < 20:  # from its death until the next one has taken over
                assert fetch()
                tries += 1
    finally:
        docker("rm", "-f", name)
    with socket.socket(socket.AF_INET6) as asking:
        assert asking.connect_ex(("::1", port)) == errno.ECONNREFUSED
