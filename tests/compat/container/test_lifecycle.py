"""A container's states and the commands that move it between them."""

import re
import time
import urllib.request
from collections.abc import Callable

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.tools import eventually, settled


def state(docker: DockerClient, name: str) -> str:
    return docker("inspect", "--format", "{{.State.Status}}", name).line


def test_create_start_stop_start_rm(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    identity = docker("create", "--name", name, image, "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done").line
    assert re.fullmatch(r"[0-9a-f]{64}", identity)
    assert state(docker, name) == "created"
    for _ in range(2):
        docker("start", identity)
        assert state(docker, name) == "running"
        docker("stop", name)
        assert state(docker, name) == "exited"
    docker("rm", identity[:12])
    assert docker.fails("inspect", name).code == 1


def test_start_of_a_running_and_stop_of_a_stopped_container_are_no_errors(docker: DockerClient, sleeper: str) -> None:
    docker("start", sleeper)
    docker("stop", sleeper)
    docker("stop", sleeper)


def test_stop_kills_what_does_not_listen(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    begin = time.monotonic()
    docker("stop", "--time", "1", name)
    assert time.monotonic() - begin >= 1
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).line == "137"


def test_stop_signal_is_the_one_asked_for(docker: DockerClient, image: str, spawn: Spawn) -> None:
    script = "trap 'exit 21' USR1; echo ready; while :; do sleep 0.1; done"
    name = spawn("--stop-signal", "USR1", image, "sh", "-c", script)
    eventually(lambda: docker("logs", name).line == "ready", "the trap is set")
    docker("stop", name)
    assert docker("wait", name).line == "21"


def test_kill_sends_any_signal(docker: DockerClient, image: str, spawn: Spawn) -> None:
    script = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"
    name = spawn(image, "sh", "-c", script)
    eventually(lambda: docker("logs", name).line == "ready", "the trap is set")
    docker("kill", "--signal", "HUP", name)
    eventually(lambda: "hup" in docker("logs", name).lines, "the signal has arrived")
    assert state(docker, name) == "running"


def test_kill_of_a_stopped_container_is_a_conflict(docker: DockerClient, sleeper: str) -> None:
    docker("kill", sleeper)
    docker("wait", sleeper)
    failed = docker.fails("kill", sleeper)
    assert failed.code == 1
    assert "is not running" in failed.stderr


def test_running_container_is_removed_only_by_force(docker: DockerClient, sleeper: str, nothing_left: None) -> None:
    failed = docker.fails("rm", sleeper)
    assert failed.code == 1
    assert "Stop the container before attempting removal or force remove" in failed.stderr
    docker("rm", "--force", sleeper)
    assert docker.fails("inspect", sleeper).code == 1


def test_unknown_container_is_named(docker: DockerClient) -> None:
    for command in ("rm", "stop", "start", "kill", "restart", "pause", "inspect", "wait"):
        failed = docker.fails(command, "nobody")
        assert failed.code == 1
        assert re.search("no such (container|object): nobody", failed.stderr, re.IGNORECASE)


def test_rename_keeps_the_container_and_frees_the_name(
    docker: DockerClient, image: str, sleeper: str, container_name: Callable[[], str], spawn: Spawn
) -> None:
    other, taken = container_name(), spawn(image, "sleep", "3600")
    docker("rename", sleeper, other)
    assert docker("inspect", "--format", "{{.Name}}", other).line == f"/{other}"
    assert docker.fails("inspect", sleeper).code == 1
    conflict = docker.fails("rename", other, taken)
    assert conflict.code == 1
    assert "when allocating new name: " in conflict.stderr
    assert "is already in use" in conflict.stderr
    assert "when allocating new name: Invalid container name" in docker.fails("rename", other, "a b").stderr


def test_restart_gives_a_new_process_and_keeps_the_files(docker: DockerClient, sleeper: str) -> None:
    docker("exec", sleeper, "touch", "/kept")
    before = docker("inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", sleeper).line
    docker("restart", "--time", "1", sleeper)
    assert docker("inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", sleeper).line != before
    docker("exec", sleeper, "ls", "/kept")


def test_pause_stops_time_and_unpause_lets_it_go_on(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    eventually(lambda: "tick" in docker("logs", name).lines, "it ticks")
    docker("pause", name)
    assert state(docker, name) == "paused"
    settled(lambda: len(docker("logs", name).lines))  # what it had said by then may still be on its way
    ticks = len(docker("logs", name).lines)
    assert docker.fails("pause", name).code == 1
    docker("unpause", name)
    assert state(docker, name) == "running"
    eventually(lambda: len(docker("logs", name).lines) > ticks + 1, "it ticks again")


def test_wait_gives_the_code_of_each(docker: DockerClient, image: str, spawn: Spawn) -> None:
    names = [spawn(image, "sh", "-c", f"sleep 0.3; exit {code}") for code in (3, 4)]
    assert docker("wait", *names).lines == ["3", "4"]


def test_rm_option_removes_the_container_but_never_its_exit_code(
    docker: DockerClient, image: str, unique: Callable[[str], str], nothing_left: None
) -> None:
    name = unique("brief")
    assert docker.fails("run", "--rm", "--name", name, image, "sh", "-c", "exit 9").code == 9
    eventually(lambda: docker.fails("inspect", name).code == 1, "it is removed")


def test_detached_run_with_rm_is_removed_when_it_ends(
    docker: DockerClient, image: str, unique: Callable[[str], str], nothing_left: None
) -> None:
    name = unique("brief")
    docker("run", "--detach", "--rm", "--name", name, image, "true")
    eventually(lambda: docker.fails("inspect", name).code == 1, "it is removed")


@pytest.mark.parametrize("code", [0, 5])
def test_restart_policy_on_failure_counts_tries(docker: DockerClient, image: str, spawn: Spawn, code: int) -> None:
    name = spawn("--restart", "on-failure:2", image, "sh", "-c", f"exit {code}")
    docker("wait", name)
    expected = "exited 2" if code else "exited 0"
    shown = ("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", name)
    eventually(lambda: docker(*shown).line == expected, f"it is {expected}")


def test_out_of_memory_is_said(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--memory", "16m", "--memory-swap", "16m", image, "sh", "-c", "tail -c 100000000 /dev/zero; exit $?")
    docker("wait", name)
    assert docker("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", name).line == "true 137"


def test_a_process_that_is_killed_for_want_of_memory_is_told_at_once(
    docker: DockerClient, image: str, spawn: Spawn
) -> None:
    name = spawn("--memory", "16m", "--memory-swap", "16m", image, "sleep", "3600")

    def told() -> int:
        chosen = ("--filter", f"container={name}", "--filter", "event=oom", "--format", "{{.Action}}")
        return len(docker("events", "--since", "1", "--until", str(time.time()), *chosen).lines)

    assert told() == 0
    for _ in range(2):
        before = told()
        assert docker.fails("exec", name, "sh", "-c", "tail -c 100000000 /dev/zero; exit $?").code == 137
        eventually(lambda: told() > before, "it is told")  # noqa: B023  # before the next round
    assert state(docker, name) == "running"
    docker("kill", name)
    assert docker("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", name).line == "true 137"


@pytest.mark.skipif(bool(TARGET), reason="about this engine's own metrics")
def test_kills_for_want_of_memory_are_counted_in_metrics_while_the_container_runs(
    docker: DockerClient, engine: Engine, image: str, spawn: Spawn
) -> None:
    name = spawn("--memory", "16m", "--memory-swap", "16m", image, "sleep", "3600")

    def counted() -> float:
        with urllib.request.urlopen(engine.metrics_url("runtimed"), timeout=60) as answer:
            lines = str(answer.read(), "utf-8").splitlines()
        series = "container_oom_events_total{"
        (value,) = (line.split()[-1] for line in lines if line.startswith(series) and f'name="{name}"' in line)
        return float(value)

    assert counted() == 0
    docker.fails("exec", name, "sh", "-c", "tail -c 100000000 /dev/zero; exit $?")
    eventually(lambda: counted() >= 1, "it is counted")


def test_top_shows_the_processes(docker: DockerClient, sleeper: str) -> None:
    eventually(lambda: "sleep 3600" in docker("top", sleeper).stdout, "it has started what it waits for")


def test_diff_shows_what_changed(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn(image, "sh", "-c", "touch /new; rm /etc/group; echo x >> /etc/passwd")
    docker("wait", name)
    assert {"A /new", "D /etc/group", "C /etc/passwd", "C /etc"} <= set(docker("diff", name).lines)
