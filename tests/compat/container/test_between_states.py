"""What clients may ask while a container starts, ends, or waits for its next start, and what its record says then."""

import itertools
import json
import re
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually

_MICROSECONDS = re.compile(r"(\.\d{6})\d*")  # of a time that has nanoseconds


def _state(docker: DockerClient, name: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(docker("inspect", "--format", "{{json .State}}", name).stdout)
    return state


def _waiting(docker: DockerClient, spawn: Spawn, image: str, *flags: str) -> str:
    """Return a container that waits for its next start, for some seconds."""
    name = spawn("--restart", "always", "--network", "none", *flags, image, "sh", "-c", "exit 3")

    def restarts() -> int:
        return int(docker("inspect", "--format", "{{.RestartCount}}", name).line)

    def waits() -> bool:
        count = restarts()
        if count < 5 or _state(docker, name)["Status"] != "restarting":
            return False
        time.sleep(0.3)  # counted before it starts, so it may have been about to
        return restarts() == count and _state(docker, name)["Status"] == "restarting"

    eventually(waits, "it waits for its next start")
    return name


def test_removal_by_force_beats_a_start(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    for attempt in range(12):
        name = container_name()
        docker("create", "--name", name, "--network", "none", image, "sleep", "1000")
        starting = docker.start("start", name)
        time.sleep(0.015 * attempt)
        removed = docker.fails("rm", "--force", name)
        starting.communicate(timeout=60)
        assert removed.code == 0, f"attempt {attempt}: {removed.stderr}"
        assert docker.fails("inspect", name).code == 1


def test_kill_ends_the_wait_for_a_restart(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = _waiting(docker, spawn, image)
    docker("kill", name)
    eventually(lambda: _state(docker, name)["Status"] == "exited", "it has ended")
    count = docker("inspect", "--format", "{{.RestartCount}}", name).line
    time.sleep(3.5)
    assert _state(docker, name)["Status"] == "exited"
    assert docker("inspect", "--format", "{{.RestartCount}}", name).line == count


def test_stop_ends_the_wait_for_a_restart(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = _waiting(docker, spawn, image)
    docker("stop", name)
    assert _state(docker, name)["Status"] == "exited"


def test_signal_that_does_not_end_it_leaves_the_wait_alone(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = _waiting(docker, spawn, image, "--stop-signal", "TERM")
    count = int(docker("inspect", "--format", "{{.RestartCount}}", name).line)
    docker("kill", "--signal", "HUP", name)
    eventually(
        lambda: int(docker("inspect", "--format", "{{.RestartCount}}", name).line) > count, "it goes on restarting", 150
    )


def test_what_needs_its_processes_says_that_it_is_restarting(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = _waiting(docker, spawn, image)

    def refused(*command: str) -> bool:
        failed = docker.fails(*command)  # meanwhile it may have been started once more
        return "is restarting, wait until the container is running" in failed.stderr + failed.stdout

    for command in ("pause", "top", "exec"):
        words = (command, name, *(("true",) if command == "exec" else ()))
        eventually(lambda words=words: refused(*words), f"{command} says that it is restarting")  # type: ignore[misc]


@pytest.mark.skipif(bool(TARGET), reason="dockerd 20.10 notes the start when it hears of it, at times after the end")
def test_container_starts_before_it_ends(docker: DockerClient, spawn: Spawn, image: str) -> None:
    for _ in range(8):
        name = spawn("--network", "none", image, "true")
        docker("wait", name)
        state = _state(docker, name)
        assert str(state["StartedAt"]) <= str(state["FinishedAt"])


def test_commit_of_a_container_that_is_ending_succeeds(docker: DockerClient, spawn: Spawn, image: str) -> None:
    for attempt in range(10):
        name = spawn("--network", "none", image, "sh", "-c", f"sleep 0.{attempt}5")
        committed = docker.fails("commit", name)
        assert committed.code == 0, committed.stderr
        docker("rmi", committed.line)


def test_health_of_a_stopped_container_is_unhealthy(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--health-cmd", "true", "--health-interval", "1s", image, "sleep", "1000")

    def health() -> str:
        return docker("inspect", "--format", "{{.State.Health.Status}}", name).line

    eventually(lambda: health() == "healthy", "it is healthy")
    docker("kill", name)
    eventually(lambda: health() == "unhealthy", "it is unhealthy")


def test_interval_that_is_shorter_holds_in_the_start_period(docker: DockerClient, spawn: Spawn, image: str) -> None:
    flags = ("--health-cmd", "false", "--health-interval", "1s", "--health-start-period", "60s")
    name = spawn(*flags, image, "sleep", "1000")

    def probes() -> list[dict[str, str]]:
        log: list[dict[str, str]] = json.loads(docker("inspect", "--format", "{{json .State.Health.Log}}", name).stdout)
        return log or []

    def pauses() -> list[float]:
        begun = [datetime.fromisoformat(_MICROSECONDS.sub(r"\1", probe["Start"])) for probe in probes()]
        return [(second - first).total_seconds() for first, second in itertools.pairwise(begun)]

    # The start period has five seconds by default, so that no two probes would come closer.
    eventually(lambda: any(pause < 5 for pause in pauses()), "it is probed again before that")
