"""Small things that clients have come to rely on: what is shown, and what an empty value means."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker as sdk_package
import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, UnixConnection


def _asked(docker: DockerClient, method: str, path: str, body: object = None) -> Any:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return json.loads(connection.getresponse().read() or b"null")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"Entrypoint": [], "Cmd": ["/bin/true"]}, "/bin/true"),
        ({"Entrypoint": []}, "from-the-image"),
        ({"Entrypoint": "", "Cmd": ["/bin/true"]}, "/bin/true"),
        ({"Cmd": ["/bin/true"]}, "/bin/echo"),
        ({"Entrypoint": None, "Cmd": ["/bin/true"]}, "/bin/echo"),
    ],
)
def test_empty_entrypoint_takes_the_image_s_away(
    docker: DockerClient, image: str, unique: Callable[[str], str], sent: dict[str, object], path: str
) -> None:
    name = unique("entry")
    base = docker("create", image).line
    changes = ("--change", 'ENTRYPOINT ["/bin/echo"]', "--change", 'CMD ["from-the-image"]')
    docker("commit", *changes, base, name)
    made = _asked(docker, "POST", "/v1.40/containers/create", {"Image": name} | sent)
    try:
        assert docker("inspect", "--format", "{{.Path}}", made["Id"]).line == path
    finally:
        docker("rm", made["Id"], base)
        docker("rmi", name)


def test_prune_of_no_volume_is_an_empty_list(docker: DockerClient) -> None:
    assert _asked(docker, "POST", '/v1.41/volumes/prune?filters={"label":["no-such"]}')["VolumesDeleted"] == []


def test_memory_without_swap_is_shown_with_twice_as_much(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--memory", "64m", "--network", "none", image, "sleep", "1000")
    assert docker("inspect", "--format", "{{.HostConfig.MemorySwap}}", name).line == str(128 << 20)


def test_graph_driver_names_the_directories(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", image, "sleep", "1000")
    data = _asked(docker, "GET", f"/v1.41/containers/{name}/json")["GraphDriver"]["Data"]
    assert {"LowerDir", "MergedDir", "UpperDir", "WorkDir"} <= data.keys()


def test_short_id_is_an_alias_in_networks_with_names(
    docker: DockerClient, spawn: Spawn, image: str, unique: Callable[[str], str]
) -> None:
    network = unique("net")
    docker("network", "create", network)
    try:
        name = spawn("--network", network, image, "sleep", "1000")
        shown = _asked(docker, "GET", f"/v1.41/containers/{name}/json")
        assert shown["NetworkSettings"]["Networks"][network]["Aliases"] == [shown["Id"][:12]]
        docker("rm", "--force", name)
    finally:
        docker("network", "rm", network)


def test_index_server_is_docker_hub_s(docker: DockerClient) -> None:
    assert _asked(docker, "GET", "/v1.41/info")["IndexServerAddress"] == "https://index.docker.io/v1/"


def test_container_that_wrote_nothing_has_no_size(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", image, "sleep", "1000")
    assert docker("ps", "--size", "--filter", f"name={name}", "--format", "{{.Size}}").line.startswith("0B ")


def test_terminal_of_an_exec_is_decided_when_it_is_made(
    docker: DockerClient, sdk: sdk_package.DockerClient, sleeper: str
) -> None:
    for tty in (True, False):
        made = sdk.api.exec_create(sleeper, ["sh", "-c", "test -t 1 && echo terminal || echo none"], tty=tty)
        output = sdk.api.exec_start(made["Id"], tty=not tty)
        assert (b"terminal" if tty else b"none") in output


@pytest.mark.skipif(bool(TARGET), reason="dockerd's archive has the layers in directories of their own")
def test_saved_archive_has_the_names_as_old_clients_read_them(docker: DockerClient, image: str, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    docker("save", "--output", str(archive), image)

    with tarfile.open(archive) as tar:
        file = tar.extractfile("repositories")
        assert file is not None
        repository, _, tag = image.rpartition(":")
        assert tag in json.load(file)[repository]


@pytest.mark.parametrize("beside", [{}, {"HostConfig": None}, {"HostConfig": {"Memory": 0, "Privileged": False}}])
def test_options_of_the_host_are_taken_from_outside_of_its_config(
    docker: DockerClient, image: str, beside: dict[str, object]
) -> None:
    sent = {"Image": image, "Memory": 64 << 20, "CpuShares": 7, "Privileged": True}
    made = _asked(docker, "POST", "/v1.41/containers/create", sent | beside)
    try:
        shown = _asked(docker, "GET", f"/v1.41/containers/{made['Id']}/json")["HostConfig"]
        assert (shown["Memory"], shown["CpuShares"]) == (64 << 20, 7)
        assert shown["Privileged"] == (beside.get("HostConfig") is None)  # a HostConfig leaves only a few to those
    finally:
        docker("rm", made["Id"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"Runtime": "no-such"}, "no-such"),
        ({"NetworkMode": "container"}, "invalid container format container:<name|id>"),
        ({"NetworkMode": "container:"}, "invalid container format container:<name|id>"),
        ({"VolumesFrom": ["no-such"]}, "No such container: no-such"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_what_the_host_cannot_is_refused_wherever_it_was_sent(
    docker: DockerClient, image: str, option: dict[str, object], said: str, inside: bool
) -> None:
    body = {"Image": image} | ({"HostConfig": option} if inside else option)
    answer = _asked(docker, "POST", "/v1.41/containers/create", body)
    if "Id" in answer:
        docker("rm", answer["Id"])
    assert said in answer.get("message", "")
