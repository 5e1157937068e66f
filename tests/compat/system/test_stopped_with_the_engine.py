"""``live_restore = false``: containers are stopped with the engine, and started with it as their policies say."""

import signal
from pathlib import Path

import pytest

from tests.compat.conftest import listens
from tests.support.docker_client import DockerClient
from tests.support.engine import run_engine
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import busybox_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

TOML = "live_restore = false\nshutdown_timeout_s = 6\n"

# Says how it was told to end, a while after the engine's services usually have.
POLITE = 'trap "sleep 1; echo ended; exit 3" QUIT; while :; do sleep 0.1; done'


def _states(docker: DockerClient) -> dict[str, str]:
    shown = docker("ps", "--all", "--format", "{{.Names}} {{.Status}}").lines
    return {name: status for name, status, *_ in (line.split() for line in shown)}


def test_they_end_by_their_own_signal_and_come_back_by_their_policies(docker_config: Path, registry: Registry) -> None:
    push(registry, "stopped", "1", busybox_image())
    image = f"{registry.address}/stopped:1"
    with run_engine({"runtimed": TOML}) as engine:
        docker = DockerClient(engine.host, docker_config)
        docker("pull", "-q", image)
        assert docker("info", "--format", "{{.LiveRestoreEnabled}}").line == "false"
        none = ("--network", "none")
        docker("run", "-d", "--name", "polite", "--stop-signal", "QUIT", *none, image, "sh", "-c", POLITE)
        docker("run", "-d", "--name", "deaf", *none, image, "sh", "-c", 'trap "" TERM; while :; do sleep 1; done')
        listens(docker, "polite", signal.SIGQUIT)
        docker("run", "-d", "--name", "frozen", *none, image, "sleep", "1000")
        docker("run", "-d", "--rm", "--name", "passing", *none, image, "sleep", "1000")
        for policy in ("always", "unless-stopped"):
            docker("run", "-d", "--restart", policy, "--name", policy, *none, image, "sleep", "1000")
        docker("run", "-d", "--restart", "unless-stopped", "--name", "rests", *none, image, "sleep", "1000")
        docker("stop", "--time", "0", "rests")
        docker("pause", "frozen")
        engine.stop()
        engine.start()
        meant = {
            "polite": "Exited", "deaf": "Exited", "frozen": "Exited", "rests": "Exited", "always": "Up",
            "unless-stopped": "Up",
        }  # fmt: skip
        eventually(lambda: _states(docker) == meant, "those come back whose policies say so", 60)
        assert docker("logs", "polite").lines == ["ended"]
        codes = docker("inspect", "--format", "{{.State.ExitCode}}", "polite", "deaf").lines
        assert codes == ["3", "137"]
        assert docker("inspect", "--format", "{{.RestartCount}}", "always").line == "0"
        docker("rm", "--force", *meant)
