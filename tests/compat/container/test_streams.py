"""Standard streams between a client and a container: attached, piped, half closed, at a terminal, and in bulk."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient, Result
from tests.support.terminal import at_terminal
from tests.support.tools import eventually

Run = Callable[..., Result]


def test_output_and_errors_stay_apart(run: Run) -> None:
    result = run("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_client_at_end_of_input_still_gets_all_output(run: Run) -> None:
    assert run("cat; echo after", "-i", input="hi\n").stdout == "hi\nafter\n"


def test_without_i_there_is_no_input(run: Run) -> None:
    assert run("cat; echo ended", input="not seen").stdout == "ended\n"


def test_bytes_pass_unchanged_both_ways(docker: DockerClient, image: str) -> None:
    content = os.urandom(3 << 20)
    done = subprocess.run(
        ["docker", "run", "--rm", "-i", image, "cat"], input=content, capture_output=True, env=docker.env(), timeout=60
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()


@pytest.mark.slow
def test_100_megabytes_arrive_exactly(docker: DockerClient, image: str) -> None:
    script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 100000000"
    client = docker.start("run", "--rm", "--network=none", image, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stderr is not None
    received = 0
    while piece := os.read(client.stdout.fileno(), 1 << 20):
        received += len(piece)
    assert (client.wait(60), received) == (0, 100_000_000), client.stderr.read()


def test_reader_that_leaves_early_does_not_hang_the_client(docker: DockerClient, image: str) -> None:
    client = docker.start("run", "--rm", "--network=none", image, "sh", "-c", "yes | head -c 10000000")
    assert client.stdout is not None
    client.stdout.read(100)
    client.stdout.close()
    assert client.wait(60) != 0


def test_attach_shows_what_comes_and_ends_with_the_exit_code(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("-i", image, "sh", "-c", "read line; echo got $line; exit 5")
    attached = docker.fails("attach", name, input="hello\n")
    assert (attached.code, attached.stdout) == (5, "got hello\n")


def test_two_clients_attached_see_the_same(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    first = docker.start("run", "-i", "--name", name, image, "sh", "-c", "cat; echo end", stdin=subprocess.PIPE)
    # The first client attaches before it starts the container, and the second takes only one that runs.
    running = ("ps", "--quiet", "--filter", f"name=^{name}$", "--filter", "status=running")
    eventually(lambda: bool(docker(*running).line), "the first client is attached and has started it")
    watcher = docker.start("attach", "--no-stdin", name)
    eventually(lambda: _attached(docker, name) >= 2, "the watcher is attached")
    assert first.communicate(b"both\n", timeout=60)[0] == b"both\nend\n"
    assert watcher.communicate(timeout=60)[0] == b"both\nend\n"


def _attached(docker: DockerClient, name: str) -> int:
    until = str(int(time.time()) + 1)
    shown = docker("events", "--since=1", f"--until={until}", f"--filter=container={name}", "--format={{.Action}}")
    return shown.lines.count("attach")


def test_detached_client_leaves_the_container_running(
    docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    with at_terminal(["docker", "run", "-it", "--name", name, image, "sh"], docker.env()) as terminal:
        terminal.type("echo r''eady\n")
        terminal.expect("ready")
        terminal.type("\x10\x11")  # ctrl-p ctrl-q
        assert terminal.wait() == 0
    assert docker("inspect", "--format", "{{.State.Status}}", name).line == "running"


def test_terminal_has_the_window_s_size_and_follows_it(docker: DockerClient, image: str) -> None:
    with at_terminal(["docker", "run", "--rm", "-it", image, "sh"], docker.env(), rows=41, columns=101) as terminal:
        terminal.expect("# ")
        terminal.expect_size(41, 101)
        terminal.resize(50, 120)
        terminal.expect_size(50, 120)
        terminal.type("exit 7\n")
        assert terminal.wait() == 7


def test_terminal_joins_output_and_errors_and_ends_lines_with_cr(run: Run) -> None:
    result = run("tty; echo err >&2", "-t")
    assert result.stdout == "/dev/pts/0\r\nerr\r\n"
    assert result.stderr == ""


def test_interrupt_at_the_terminal_reaches_the_program(docker: DockerClient, image: str) -> None:
    script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    with at_terminal(["docker", "run", "--rm", "-it", image, "sh", "-c", script], docker.env()) as terminal:
        terminal.expect("ready")
        terminal.type("\x03")
        terminal.expect("interrupted")
        assert terminal.wait() == 9


def test_signal_to_the_client_is_passed_on(docker: DockerClient, image: str) -> None:
    script = "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.1; done"
    client = docker.start("run", "--rm", image, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.terminate()
    assert client.stdout.readline() == b"caught\n"
    assert client.wait(60) == 4


def test_start_attached_shows_output_and_code(
    docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    docker("create", "--name", name, image, "sh", "-c", "echo again; exit 6")
    for _ in range(2):
        started = docker.fails("start", "--attach", name)
        assert (started.code, started.stdout) == (6, "again\n")
