"""What the engine puts into a container's root and environment beside what its image has."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker as sdk_package
import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, Result, UnixConnection

Run = Callable[..., Result]


def test_programs_find_out_that_they_are_in_a_container(run: Run) -> None:
    assert run("test -f /.dockerenv && readlink /etc/mtab && grep -c ' / ' /etc/mtab").lines == ["/proc/mounts", "1"]


def test_it_is_no_change_and_in_no_image(docker: DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", image, "true")
    docker("wait", name)
    assert docker("diff", name).stdout == ""


def test_an_archive_of_its_root_shows_it(sdk: sdk_package.DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", image, "true")
    sdk.api.wait(name)
    with tarfile.open(fileobj=io.BytesIO(b"".join(sdk.api.export(name)))) as archive:
        names = set(archive.getnames())
    assert {".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/mtab", "etc/resolv.conf"} <= names


def test_working_directory_is_there_before_the_first_start(
    docker: DockerClient, image: str, container_name: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    name = container_name()
    docker("create", "--name", name, "--network", "none", "-w", "/made/on/demand", image, "cat", "file")
    docker("cp", str(tmp_path / "file"), f"{name}:/made/on/demand/")
    assert docker("start", "--attach", name).stdout == "content"


@pytest.mark.parametrize("path", ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/.dockerenv"])
def test_files_are_there_before_the_first_start(
    sdk: sdk_package.DockerClient, docker: DockerClient, image: str, container_name: Callable[[], str], path: str
) -> None:
    name = container_name()
    docker("create", "--name", name, "--network", "none", image, "true")
    _, stat = sdk.api.get_archive(name, path)
    assert (stat["name"], stat["size"]) == (path.rpartition("/")[2], 0)


def test_a_link_puts_addresses_ports_and_variables_into_the_environment(
    docker: DockerClient, spawn: Spawn, image: str
) -> None:
    other = spawn("--expose", "5432", "-e", "SECRET=x=y", image, "sleep", "1000")
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", other).line
    shown = docker("run", "--rm", "--name", f"{other}-web", "--link", f"{other}:my-db", image, "env").lines
    assert {line for line in shown if line.startswith("MY_DB_")} == {
        f"MY_DB_PORT=tcp://{address}:5432",
        f"MY_DB_PORT_5432_TCP=tcp://{address}:5432",
        f"MY_DB_PORT_5432_TCP_ADDR={address}",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        f"MY_DB_NAME=/{other}-web/my-db",
        "MY_DB_ENV_SECRET=x=y",
    }


def test_a_link_is_seen_by_execs_and_outlives_a_new_name(docker: DockerClient, spawn: Spawn, image: str) -> None:
    other = spawn("-e", "SECRET=x", image, "sleep", "1000")
    name = spawn("--user", "7:8", "--link", f"{other}:db", image, "sleep", "1000")
    assert "DB_ENV_SECRET=x" in docker("exec", name, "env").lines
    docker("rename", other, f"{other}-new")
    try:
        docker("restart", "--time", "0", name)
        assert docker("inspect", "--format", "{{json .HostConfig.Links}}", name).line == f'["/{other}-new:/{name}/db"]'
    finally:
        docker("rename", f"{other}-new", other)


def test_whom_a_link_leads_to_has_its_name_in_lists_until_the_link_goes(
    docker: DockerClient, spawn: Spawn, image: str
) -> None:
    other = spawn(image, "sleep", "1000")
    name = spawn("--link", f"{other}:db", image, "sleep", "1000")

    def names(*flags: str) -> str:
        return docker("ps", *flags, "--filter", f"id={identity}", "--format", "{{.Names}}").line

    identity = docker("inspect", "--format", "{{.Id}}", other).line
    assert names("--no-trunc").split(",") == sorted([other, f"{name}/db"])
    assert names() == other
    docker("rename", name, f"{name}-new")
    try:
        assert names("--no-trunc").split(",") == sorted([other, f"{name}-new/db"])
    finally:
        docker("rename", f"{name}-new", name)
    docker("rm", "--force", name)
    assert names("--no-trunc") == other


def test_a_link_is_removed_at_once(docker: DockerClient, spawn: Spawn, image: str) -> None:
    other = spawn(image, "sleep", "1000")
    links = [f"--link={other}:{alias}" for alias in ("db", "cache", "queue", "mail")]
    name = spawn(*links, image, "sleep", "1000")
    assert docker("rm", "--link", f"{name}/db").line == f"{name}/db"
    shown = json.loads(docker("inspect", "--format", "{{json .HostConfig.Links}}", name).line)
    assert sorted(shown) == [f"/{other}:/{name}/{alias}" for alias in ("cache", "mail", "queue")]
    hosts = [line.split()[1] for line in docker("exec", name, "cat", "/etc/hosts").lines]
    assert ("db" in hosts, "cache" in hosts) == (False, True)
    assert "No such container" in docker.fails("rm", "--link", f"{name}/db").stderr
    assert "No such container" in docker.fails("rm", "--link", f"{name}-none/db").stderr
    assert "cannot remove the default link name" in docker.fails("rm", "--link", name).stderr
    for alias in ("cache", "queue", "mail"):
        docker("rm", "--link", f"/{name}/{alias}")
    docker("restart", "--time", "0", name)
    assert docker("inspect", "--format", "{{json .HostConfig.Links}}", name).line == "null"
    assert "ENV" not in docker("exec", name, "env").stdout


def test_a_container_is_connected_although_whom_it_is_linked_to_has_ended(
    docker: DockerClient, spawn: Spawn, image: str
) -> None:
    other = spawn(image, "sleep", "1000")
    name = spawn("--link", f"{other}:db", image, "sleep", "1000")
    docker("stop", "--time", "0", other)
    docker("network", "create", f"{name}-net")
    try:
        docker("network", "connect", f"{name}-net", name)
        docker("network", "disconnect", f"{name}-net", name)
    finally:
        docker("rm", "--force", name)
        docker("network", "rm", f"{name}-net")


def test_an_exec_shows_the_containers_user(sdk: sdk_package.DockerClient, spawn: Spawn, image: str) -> None:
    name = spawn("--network", "none", "--user", "7:8", image, "sleep", "1000")
    for asked, shown in (("", "7:8"), ("9", "9")):
        made = sdk.api.exec_create(name, ["true"], user=asked)
        assert sdk.api.exec_inspect(made["Id"])["ProcessConfig"]["user"] == shown


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "checkpoints"), ("POST", "checkpoints"), ("DELETE", "checkpoints/one")]
)
def test_checkpoints_are_told_to_be_experimental(docker: DockerClient, sleeper: str, method: str, path: str) -> None:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    try:
        connection.request(method, f"/v1.41/containers/{sleeper}/{path}", '{"CheckpointID": "one"}')
        answer = connection.getresponse()
        assert answer.status == 501
        assert json.loads(answer.read())["message"].startswith("This experimental feature is disabled by default.")
    finally:
        connection.close()


def test_start_from_a_checkpoint_is_refused(docker: DockerClient, sleeper: str) -> None:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    try:
        connection.request("POST", f"/v1.41/containers/{sleeper}/start?checkpoint=one")
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["message"] == "checkpoint is only supported in experimental mode"
    finally:
        connection.close()


def test_device_that_no_driver_has_is_refused(docker: DockerClient, image: str) -> None:
    failed = docker.fails("run", "--rm", "--gpus", "all", image, "true")
    assert failed.code == 125
    assert 'could not select device driver "" with capabilities: [[gpu]]' in failed.stderr
    if not TARGET:
        failed = docker.fails("run", "--rm", "--device", "vendor.com/class=one", image, "true")
        assert "vendor.com/class=one" in failed.stderr
