"""``docker logs``: both streams, the last lines, from when, with times, and as they come."""

import re
from collections.abc import Callable

import pytest

from tests.compat.conftest import Spawn, say_in_turn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


@pytest.fixture
def talker(docker: DockerClient, image: str, spawn: Spawn) -> str:
    """A container that has said three lines, one of them on standard error, and ended."""
    return say_in_turn(docker, spawn, image, "echo one", "echo two >&2", "echo three")


def test_streams_come_back_apart(docker: DockerClient, talker: str) -> None:
    shown = docker("logs", talker)
    assert (shown.stdout, shown.stderr) == ("one\nthree\n", "two\n")


@pytest.mark.parametrize(
    ("count", "stdout", "stderr"), [("1", "three\n", ""), ("2", "three\n", "two\n"), ("0", "", "")]
)
def test_tail_gives_the_last_lines(docker: DockerClient, talker: str, count: str, stdout: str, stderr: str) -> None:
    shown = docker("logs", "--tail", count, talker)
    assert (shown.stdout, shown.stderr) == (stdout, stderr)


def test_times_are_rfc_3339_with_nanoseconds(docker: DockerClient, talker: str) -> None:
    shown = docker("logs", "-t", talker)
    lines = [*shown.lines, *shown.stderr.splitlines()]
    assert len(lines) == 3
    assert all(_STAMP.match(line) for line in lines)


def test_details_are_the_labels_and_variables_that_the_log_is_to_carry(
    docker: DockerClient, image: str, spawn: Spawn, talker: str
) -> None:
    assert docker("logs", "--details", talker).lines == [" one", " three"]
    chosen = ["--log-opt", "labels=tier,none", "--log-opt", "env-regex=^APP_"]
    given = ["--label", "tier=a b", "--label", "other=1", "-e", "APP_X=1", "-e", "APP_Y=é", "-e", "NOT=1"]
    name = spawn(*chosen, *given, image, "echo", "said")
    docker("wait", name)
    assert docker("logs", "--details", name).lines == ["APP_X=1,APP_Y=%C3%A9,tier=a+b said"]
    assert _STAMP.sub("", docker("logs", "--details", "-t", name).line, 1) == "APP_X=1,APP_Y=%C3%A9,tier=a+b said"


def test_since_and_until_cut_at_that_time(docker: DockerClient, talker: str) -> None:
    first, second = (line.split(" ")[0] for line in docker("logs", "-t", talker).lines)
    assert docker("logs", "--since", second, talker).stdout == "three\n"
    assert docker("logs", "--until", first, talker).stdout == "one\n"
    assert docker("logs", "--since", "1h", talker).stdout == "one\nthree\n"


def test_followed_logs_end_with_the_container(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
    assert docker("logs", "--follow", name).lines == ["1", "2", "3", "4", "5"]


def test_followed_logs_come_while_the_container_runs(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("-i", image, "sh", "-c", "echo before; sleep 1; echo after; sleep 3600")
    client = docker.start("logs", "--follow", name)
    assert client.stdout is not None
    assert [client.stdout.readline(), client.stdout.readline()] == [b"before\n", b"after\n"]
    client.terminate()
    client.wait(60)


def test_tail_and_follow_go_together(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "seq 1 50; until [ -e /go ]; do echo on; sleep 0.1; done; echo last")
    eventually(lambda: "on" in docker("logs", name).lines, "it has said what is not to be shown")
    client = docker.start("logs", "--follow", "--tail", "0", name)
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    docker("exec", name, "touch", "/go")
    *before, last = client.communicate(timeout=60)[0].splitlines()
    assert (set(before) <= {b"on"}, last) == (True, b"last")


def test_line_without_an_end_is_kept_so(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "printf", "no newline")
    docker("wait", name)
    assert docker("logs", name).stdout == "no newline"


def test_long_line_stays_one_line(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next")
    docker("wait", name)
    assert docker("logs", name).lines == ["x" * 100_000, "next"]


def test_logs_of_a_terminal_are_raw(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("-t", image, "echo", "line")
    docker("wait", name)
    assert docker("logs", name).stdout == "line\r\n"


def test_logs_go_on_after_a_restart(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    docker("run", "--name", name, image, "echo", "said")
    docker("start", "--attach", name)
    assert docker("logs", name).lines == ["said", "said"]


def test_logs_of_an_unknown_container_say_so(docker: DockerClient) -> None:
    failed = docker.fails("logs", "nobody")
    assert (failed.code, "No such container: nobody" in failed.stderr) == (1, True)
