"""Exit codes of ``docker run``: the program's own, or Docker's when there was none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient, Result

Run = Callable[..., Result]


@pytest.mark.parametrize("code", [0, 1, 3, 42, 255])
def test_exit_code_of_the_program_is_the_client_s(run: Run, code: int) -> None:
    assert run(f"exit {code}").code == code


def test_command_that_is_not_there_exits_127(docker: DockerClient, image: str, nothing_left: None) -> None:
    failed = docker.fails("run", "--rm", image, "no-such-program")
    assert failed.code == 127
    assert "no-such-program" in failed.stderr
    assert "executable file not found in $PATH" in failed.stderr


def test_absolute_command_that_is_not_there_exits_127(docker: DockerClient, image: str, nothing_left: None) -> None:
    failed = docker.fails("run", "--rm", image, "/no/such/program")
    assert failed.code == 127
    assert "no such file or directory" in failed.stderr


@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_command_that_cannot_be_executed_exits_126(
    docker: DockerClient, image: str, nothing_left: None, command: str
) -> None:
    failed = docker.fails("run", "--rm", image, command)
    assert failed.code == 126
    assert "permission denied" in failed.stderr or "is a directory" in failed.stderr


def test_killed_by_signal_exits_128_and_its_number(run: Run) -> None:
    # The outer shell is process 1, which signals of its own namespace cannot kill.
    assert run("sh -c 'kill -KILL $$'; exit $?").code == 137
    assert run("sh -c 'kill -TERM $$'; exit $?").code == 143


def test_kill_ends_the_run_with_137(docker: DockerClient, sleeper: str) -> None:
    docker("kill", sleeper)
    assert docker("wait", sleeper).line == "137"


def test_stop_ends_the_run_with_143(docker: DockerClient, sleeper: str) -> None:
    docker("stop", sleeper)
    assert docker("wait", sleeper).line == "143"


def test_foreground_client_ends_with_the_container_s_code_when_it_is_stopped(
    docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    script = "trap 'exit 143' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
    client = docker.start("run", "--name", name, image, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    docker("stop", name)
    assert client.wait(60) == 143


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--memory", "1k"], "Minimum memory limit allowed is 6MB"),
        (["--network", "no-such-network"], "network no-such-network not found"),
        (["--network", "container:no-such-container"], "No such container: no-such-container"),
        (["--cap-add", "NO_SUCH_CAPABILITY"], "NO_SUCH_CAPABILITY"),
        (["--user", "nobody-of-that-name"], "nobody-of-that-name"),
        (["--runtime", "no-such-runtime"], "no-such-runtime"),
        (["--log-driver", "no-such-driver"], "no-such-driver"),
        (["--security-opt", "no-such-option"], "no-such-option"),
        (["--workdir", "relative"], "needs to be an absolute path"),
        (["--name", "-bad-"], "Invalid container name"),
        (["--publish", "1.2.3.4:1:80"], "1.2.3.4"),
    ],
)
def test_flag_that_cannot_be_obeyed_exits_125_and_says_why(
    docker: DockerClient, image: str, nothing_left: None, flags: list[str], says: str
) -> None:
    before = set(docker("ps", "--all", "--quiet").lines)
    failed = docker.fails("run", "--rm", *flags, image, "true")
    assert (failed.code, says in failed.stderr) == (125, True), failed.stderr
    assert set(docker("ps", "--all", "--quiet").lines) == before


def test_name_that_is_taken_exits_125_and_names_its_owner(docker: DockerClient, image: str, sleeper: str) -> None:
    failed = docker.fails("run", "--rm", "--name", sleeper, image, "true")
    owner = docker("inspect", "--format", "{{.Id}}", sleeper).line
    assert failed.code == 125
    assert f'Conflict. The container name "/{sleeper}" is already in use by container "{owner}"' in failed.stderr
    assert "You have to remove (or rename) that container to be able to reuse that name." in failed.stderr


@pytest.mark.parametrize(
    ("flags", "command", "of_client", "of_state"),
    [
        ((), "no-such-program", 127, 127),
        ((), "/etc/passwd", 126, 126),
        (("--sysctl", "net.nosuch=1"), "true", 127, 127),
        (("--volume", "/etc/passwd:/etc"), "true", 125, 127),
    ],
)
def test_a_start_that_fails_is_in_the_state(
    docker: DockerClient,
    image: str,
    container_name: Callable[[], str],
    flags: tuple[str, ...],
    command: str,
    of_client: int,
    of_state: int,
) -> None:
    name = container_name()
    failed = docker.fails("run", "--name", name, *flags, image, command)
    assert failed.code == of_client
    state = json.loads(docker("inspect", "--format", "{{json .State}}", name).stdout)
    assert (state["Status"], state["ExitCode"]) == ("created", of_state)
    assert state["Error"]
    assert state["Error"] in failed.stderr


def test_port_that_is_taken_exits_125_and_is_named(
    docker: DockerClient, image: str, spawn: Spawn, nothing_left: None, tmp_path: Path
) -> None:
    first = spawn("-p", "127.0.0.1::80", image, "sleep", "3600")
    address = docker("port", first, "80/tcp").line
    failed = docker.fails("run", "--rm", "-p", f"{address}:80", image, "true")
    assert failed.code == 125
    assert address in failed.stderr
    assert "port is already allocated" in failed.stderr
    docker("rm", "--force", first)
