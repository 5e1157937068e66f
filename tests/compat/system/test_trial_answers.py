"""What the engine says of itself and of containers, in places where clients look closely."""

import json
from collections.abc import Callable

from docker import DockerClient as Sdk

from sampan.version import VERSION
from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient


def test_a_failed_run_tells_its_error_once(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    for flags in ((), ("--rm",)):
        failed = docker.fails("run", "--name", container_name(), *flags, image, "no-such-command")
        assert failed.code == 127
        assert failed.stderr.count("no-such-command") == 1, failed.stderr
        assert "Error waiting for container" not in failed.stderr


def test_the_server_version_is_the_engines_own(docker: DockerClient, sdk: Sdk) -> None:
    if TARGET:
        return
    assert docker("version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}").line == f"{VERSION} 1.52"
    assert docker("info", "--format", "{{.ServerVersion}}").line == VERSION
    assert sdk.version()["ApiVersion"] == "1.52"
    assert all(line.split(":", 1)[1].strip() for line in docker("version").lines if "uilt:" in line or "ommit:" in line)


def test_a_stopped_container_shows_no_ports(docker: DockerClient, image: str, spawn: Spawn) -> None:
    name = spawn("--publish", "127.0.0.1::80", image, "sleep", "1000")
    listing = ("ps", "--all", "--filter", f"name={name}", "--format", "{{.Ports}}")
    assert docker(*listing).line.endswith("->80/tcp")
    docker("kill", name)
    assert docker(*listing).line == ""


def test_kill_returns_when_the_container_has_ended(docker: DockerClient, image: str, spawn: Spawn) -> None:
    for _ in range(5):
        name = spawn("--restart", "always", image, "sleep", "1000")
        docker("kill", name)
        assert docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name).line == "exited 137"
        docker("rm", name)


def test_a_container_that_joins_a_network_has_the_others_name(docker: DockerClient, image: str, spawn: Spawn) -> None:
    named = spawn("--hostname", "keel", image, "sleep", "1000")
    unnamed = spawn(image, "sleep", "1000")
    for other, expected in ((named, "keel"), (unnamed, docker("inspect", "--format", "{{.Id}}", unnamed).line[:12])):
        script = "hostname; cat /etc/hostname; echo $HOSTNAME; grep -c $HOSTNAME /etc/hosts"
        found = docker("run", "--rm", "--network", f"container:{other}", image, "sh", "-c", script).lines
        assert found == [expected, expected, expected, "1"]


def test_disk_usage_counts_what_volumes_hold(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    volume = unique("v")
    docker("run", "--rm", "--volume", f"{volume}:/d", image, "dd", "if=/dev/zero", "of=/d/f", "bs=1M", "count=3")
    try:
        found = json.loads(docker("system", "df", "--verbose", "--format", "{{json .Volumes}}").line)
        (size,) = [one["Size"] for one in found if one["Name"] == volume]
        assert size.endswith("MB")
        assert 3.1 <= float(size.removesuffix("MB")) <= 3.2
    finally:
        docker("volume", "rm", volume)


def test_a_variable_without_a_value_is_taken_away(docker: DockerClient, image: str) -> None:
    assert "NOT_SET_HERE" not in docker("run", "--rm", "--env", "NOT_SET_HERE", image, "env").stdout
    created = docker("create", "--env", "NOT_SET_HERE", image, "env").line
    docker("rm", created)
