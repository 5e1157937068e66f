"""Options whose effect is easily lost: seen from inside, in an inspect, or in a warning that names them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, Result

Run = Callable[..., Result]

_PIDS = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
_VERSION_1 = Path("/sys/fs/cgroup/cpu").is_dir()
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT


def inspected(docker: DockerClient, name: str) -> dict[str, Any]:
    """Return what the engine says of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name).stdout)[0]
    return found


def test_no_limit_on_processes_can_be_asked_for(docker: DockerClient, run: Run, spawn: Spawn, image: str) -> None:
    assert run(_PIDS, "--pids-limit", "-1").line == "max"
    name = spawn("--network", "none", "--pids-limit", "50", image, "sleep", "1000")
    docker("update", "--pids-limit", "-1", name)
    limit = docker("exec", name, "sh", "-c", _PIDS).line
    assert limit == "max" or int(limit) >= _MOST_PIDS
    assert inspected(docker, name)["HostConfig"]["PidsLimit"] in (None, 0)


@pytest.mark.skipif(not _VERSION_1, reason="control groups of version 2 have weights")
def test_a_weight_that_the_kernel_has_not_is_warned_of(run: Run) -> None:
    result = run("echo runs", "--network", "none", "--blkio-weight", "300")
    assert result.line == "runs"
    assert "does not support Block I/O weight or the cgroup is not mounted. Weight discarded." in result.stderr


@pytest.mark.skipif(not _VERSION_1, reason="control groups of version 2 take it for the least")
def test_fewer_cpu_shares_than_there_can_be_are_refused(run: Run) -> None:
    refused = run("true", "--network", "none", "--cpu-shares", "1")
    assert refused.code == 125
    assert "the minimum allowed cpu-shares is 2" in refused.stderr


def test_mounts_are_told_where_they_were_asked_for(
    docker: DockerClient, image: str, container_name: Callable[[], str], tmp_path: Path
) -> None:
    name, volume = container_name(), container_name()
    mounts = ("--mount", f"type=bind,src={tmp_path},dst=/b,readonly", "--mount", f"type=volume,src={volume},dst=/v")
    docker("create", "--name", name, *mounts, "--tmpfs", "/t:size=1m", image, "true")
    shown = inspected(docker, name)
    assert shown["HostConfig"]["Binds"] is None
    assert [mount["Target"] for mount in shown["HostConfig"]["Mounts"]] == ["/b", "/v"]
    assert shown["HostConfig"]["Tmpfs"] == {"/t": "size=1m"}
    assert {mount["Destination"]: mount["Mode"] for mount in shown["Mounts"]} == {"/b": "", "/v": "z"}
    heir = container_name()
    docker("create", "--name", heir, "--volumes-from", f"{name}:ro", image, "true")
    taken = {mount["Destination"]: (mount["Mode"], mount["RW"]) for mount in inspected(docker, heir)["Mounts"]}
    assert taken == {"/b": ("", False), "/v": ("", False)}
    docker("rm", name, heir)
    docker("volume", "rm", volume)


def test_who_shares_the_host_s_processes_has_no_label(
    docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    for flag in ("--pid=host", "--ipc=host", "--privileged"):
        name = container_name()
        docker("create", "--name", name, flag, image, "true")
        assert inspected(docker, name)["HostConfig"]["SecurityOpt"] == ["label=disable"]


def test_who_shares_the_host_s_network_is_called_as_the_host_is(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "host", image, "sleep", "1000")
    assert inspected(docker, name)["Config"]["Hostname"] == docker("exec", name, "hostname").line


def test_an_inspect_tells_which_control_groups_are_seen(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", image, "sleep", "1000")
    shown = inspected(docker, name)
    own = Path(f"/proc/{shown['State']['Pid']}/ns/cgroup").readlink() != Path("/proc/self/ns/cgroup").readlink()
    assert shown["HostConfig"]["CgroupnsMode"] == ("private" if own else "host")


def test_who_joins_another_s_network_exposes_nothing(run: Run, sleeper: str) -> None:
    refused = run("true", "--network", f"container:{sleeper}", "--expose", "80")
    assert refused.code == 125
    assert "conflicting options: port exposing and the container type network mode" in refused.stderr


def test_a_link_on_a_network_of_ones_own_is_told_once(
    docker: DockerClient, image: str, sleeper: str, container_name: Callable[[], str]
) -> None:
    name, network = container_name(), container_name()
    docker("network", "create", network)
    docker("create", "--name", name, "--network", network, "--link", f"{sleeper}:db", image, "true")
    assert inspected(docker, name)["NetworkSettings"]["Networks"][network]["Links"] == [f"{sleeper}:db"]
    docker("rm", name)
    docker("network", "rm", network)


def test_default_is_no_name_for_a_network(docker: DockerClient) -> None:
    refused = docker.fails("network", "create", "default")
    assert refused.code == 1
    assert "operation is not permitted on predefined default network" in refused.stderr


@pytest.mark.skipif(bool(TARGET), reason="endpoints have sysctls from Docker 28 on")
def test_docker_s_small_letters_name_the_interface_too(
    docker: DockerClient, run: Run, container_name: Callable[[], str]
) -> None:
    network = container_name()
    docker("network", "create", network)
    option = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    assert run("cat /proc/sys/net/ipv4/conf/eth0/log_martians", "--network", f"name={network},{option}").line == "1"
    docker("network", "rm", network)


@pytest.mark.skipif(bool(TARGET), reason="docker has volumes of a cluster from API 1.42 on")
def test_a_volume_of_a_cluster_takes_a_swarm(docker: DockerClient) -> None:
    for flags in (["--scope", "multi"], ["--availability", "pause"], ["--sharing", "readonly"]):
        refused = docker.fails("volume", "create", *flags, "of-a-cluster")
        assert refused.code == 1
        assert "This node is not a swarm manager." in refused.stderr
    assert "of-a-cluster" not in docker("volume", "ls", "--quiet").stdout


def test_a_seccomp_profile_that_says_nothing_filters_nothing(docker: DockerClient, image: str, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("{}")
    for option, mode in (("seccomp=unconfined", "0"), (f"seccomp={tmp_path}/empty.json", "0")):
        shown = docker("run", "--rm", "--security-opt", option, image, "grep", "Seccomp:", "/proc/self/status")
        assert shown.line.split() == ["Seccomp:", mode], option
