"""``docker exec``: codes, input, terminals, users, directories, environment, and containers that cannot."""

import json
from collections.abc import Callable

import docker as sdk_package
import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.terminal import at_terminal


@pytest.mark.parametrize("code", [0, 1, 77])
def test_exit_code_is_the_command_s(docker: DockerClient, sleeper: str, code: int) -> None:
    assert docker.fails("exec", sleeper, "sh", "-c", f"exit {code}").code == code


def test_output_and_errors_stay_apart(docker: DockerClient, sleeper: str) -> None:
    shown = docker("exec", sleeper, "sh", "-c", "echo out; echo err >&2")
    assert (shown.stdout, shown.stderr) == ("out\n", "err\n")


def test_command_that_is_not_there_exits_127(docker: DockerClient, sleeper: str) -> None:
    failed = docker.fails("exec", sleeper, "no-such-program")
    assert failed.code in (127, 126 if TARGET else 127)  # 126 before Docker 23
    assert "no-such-program" in failed.stderr + failed.stdout


def test_command_that_cannot_be_executed_exits_126(docker: DockerClient, sleeper: str) -> None:
    assert docker.fails("exec", sleeper, "/etc/passwd").code == 126


def test_a_command_that_cannot_start_is_told_at_a_terminal_as_well(docker: DockerClient, sleeper: str) -> None:
    for words, code, said in (
        (("nosuch",), 126 if TARGET else 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
    ):
        with at_terminal(["docker", "exec", "-it", sleeper, *words], docker.env()) as terminal:
            terminal.expect(said)
            assert terminal.wait() == code


def test_input_reaches_the_command_and_its_end_ends_it(docker: DockerClient, sleeper: str) -> None:
    assert docker("exec", "-i", sleeper, "wc", "-c", input="12345").line == "5"


def test_user_directory_and_environment(docker: DockerClient, sleeper: str) -> None:
    script = "id -u; pwd; echo $A"
    shown = docker("exec", "-u", "daemon", "-w", "/etc", "-e", "A=1", sleeper, "sh", "-c", script)
    assert shown.lines == ["1", "/etc", "1"]


def test_environment_and_directory_of_the_container_are_inherited(
    docker: DockerClient, image: str, spawn: Spawn
) -> None:
    name = spawn("-e", "FROM=container", "-w", "/var/www", image, "sleep", "3600")
    assert docker("exec", name, "sh", "-c", "echo $FROM; pwd; echo $HOME").lines == ["container", "/var/www", "/root"]


def test_terminal_works_both_ways(docker: DockerClient, sleeper: str) -> None:
    with at_terminal(["docker", "exec", "-it", sleeper, "sh"], docker.env(), rows=33, columns=99) as terminal:
        terminal.expect("# ")
        terminal.expect_size(33, 99)
        terminal.type("exit 8\n")
        assert terminal.wait() == 8


@pytest.mark.parametrize("at", ["create", "start"])
def test_terminal_has_the_size_asked_for_from_the_first_instruction(
    docker: DockerClient, sdk: sdk_package.DockerClient, sleeper: str, at: str
) -> None:
    if tuple(map(int, sdk.version()["ApiVersion"].split("."))) < (1, 42):
        pytest.skip("the engine does not know the ConsoleSize of an exec, which came with API 1.42")
    size = {"ConsoleSize": [33, 99]}
    made, started = (size, {}) if at == "create" else ({}, size)
    for _ in range(10):
        asked = {"Cmd": ["stty", "size"], "Tty": True, "AttachStdout": True, **made}
        exec_id = json.loads(_posted(docker, f"/v1.42/containers/{sleeper}/exec", asked))["Id"]
        assert _posted(docker, f"/v1.42/exec/{exec_id}/start", {"Tty": True, **started}) == b"33 99\r\n"


def _posted(docker: DockerClient, path: str, body: object) -> bytes:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_detached_command_goes_on_alone(docker: DockerClient, sleeper: str) -> None:
    assert docker("exec", "-d", sleeper, "sh", "-c", "echo done > /tmp/mark").stdout == ""
    wait = "while [ ! -s /tmp/mark ]; do sleep 0.05; done; cat /tmp/mark"
    assert docker("exec", sleeper, "sh", "-c", wait).line == "done"


def test_privileged_exec_has_every_capability(docker: DockerClient, sleeper: str) -> None:
    plain = docker("exec", sleeper, "grep", "CapEff", "/proc/self/status").line
    privileged = docker("exec", "--privileged", sleeper, "grep", "CapEff", "/proc/self/status").line
    assert plain.endswith("00000000a80425fb")
    assert int(privileged.split()[1], 16) > int(plain.split()[1], 16)


def test_commands_end_with_their_container(docker: DockerClient, sleeper: str) -> None:
    client = docker.start("exec", sleeper, "sh", "-c", "echo here; sleep 3600")
    assert client.stdout is not None
    assert client.stdout.readline() == b"here\n"
    docker("kill", sleeper)
    assert client.wait(60) == 137


def test_stopped_container_cannot_exec(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    docker("run", "--name", name, image, "true")
    failed = docker.fails("exec", name, "true")
    assert failed.code == 1
    assert "is not running" in failed.stderr


def test_paused_container_cannot_exec(docker: DockerClient, sleeper: str) -> None:
    docker("pause", sleeper)
    failed = docker.fails("exec", sleeper, "true")
    docker("unpause", sleeper)
    assert failed.code == 1
    assert "is paused, unpause the container before exec" in failed.stderr


def test_unknown_container_is_named(docker: DockerClient) -> None:
    failed = docker.fails("exec", "nobody", "true")
    assert (failed.code, "No such container: nobody" in failed.stderr) == (1, True)


def test_inspect_knows_the_execs_that_run(docker: DockerClient, sleeper: str) -> None:
    client = docker.start("exec", "-i", sleeper, "sh", "-c", "echo here; cat", stdin=-1)
    assert client.stdout is not None
    assert client.stdout.readline() == b"here\n"
    assert len(json.loads(docker("inspect", "--format", "{{json .ExecIDs}}", sleeper).stdout)) == 1
    assert client.communicate(b"", timeout=60) == (b"", b"")
    assert client.returncode == 0
