"""Containers that are connected, renamed and started again: their addresses, and the names that lead to them."""

from collections.abc import Callable, Iterator

import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient

SLEEP = ("sleep", "3600")


@pytest.fixture
def network(docker: DockerClient, unique: Callable[[str], str]) -> Iterator[str]:
    name = unique("net")
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def addresses(docker: DockerClient, name: str) -> list[str]:
    """Return the IPv4 addresses that a container sees on its own interfaces, loopback apart."""
    shown = docker("exec", name, "ip", "-o", "-4", "addr").lines
    return sorted(line.split()[3] for line in shown if " lo " not in line)


def resolves(docker: DockerClient, asker: str, name: str) -> bool:
    return docker.fails("exec", asker, "ping", "-c", "1", "-w", "10", name).code == 0


def own_address(docker: DockerClient, name: str) -> str:
    return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name).line


@pytest.mark.parametrize("stopped", [False, True])
def test_a_network_that_was_connected_is_there_once_after_a_restart(
    docker: DockerClient, image: str, spawn: Spawn, network: str, stopped: bool
) -> None:
    name = spawn(image, *SLEEP)
    if stopped:
        docker("kill", name)
        docker("wait", name)
    docker("network", "connect", network, name)
    docker("restart", "--time", "0", name)
    assert len(addresses(docker, name)) == 2
    docker("network", "disconnect", network, name)
    assert len(addresses(docker, name)) == 1
    docker("restart", "--time", "0", name)
    assert len(addresses(docker, name)) == 1


def test_a_renamed_container_is_found_by_its_new_name_alone(
    docker: DockerClient, network: str, image: str, spawn: Spawn, container_name: Callable[[], str]
) -> None:
    asker = spawn("--network", network, image, *SLEEP)
    old = spawn("--network", network, image, *SLEEP)
    new = container_name()
    docker("rename", old, new)
    lookup = ("exec", asker, "nslookup", "-type=a")
    assert own_address(docker, new) in docker(*lookup, new).stdout
    assert docker.fails(*lookup, old).code != 0
    docker("run", "--detach", "--name", old, "--network", network, image, *SLEEP)
    found = docker(*lookup, old).stdout
    assert own_address(docker, old) in found
    assert own_address(docker, new) not in found


def test_a_link_leads_to_where_its_container_is_now(docker: DockerClient, image: str, spawn: Spawn) -> None:
    database = spawn(image, *SLEEP)
    asker = spawn("--link", f"{database}:pg", image, *SLEEP)
    docker("kill", database)
    docker("wait", database)
    thief = spawn(image, *SLEEP)
    docker("start", database)
    moved, other = own_address(docker, database), own_address(docker, thief)
    assert moved != other
    entries = [line.split() for line in docker("exec", asker, "cat", "/etc/hosts").lines if "pg" in line.split()]
    assert [entry[0] for entry in entries] == [moved]


def test_names_in_filters_of_networks_and_volumes_are_regular_expressions(
    docker: DockerClient, network: str, unique: Callable[[str], str]
) -> None:
    volume = unique("v")
    docker("volume", "create", volume)
    try:
        for kind, name in (("network", network), ("volume", volume)):
            listed = (kind, "ls", "--format", "{{.Name}}", "--filter")
            assert docker(*listed, f"name=^{name}$").lines == [name]
            assert docker(*listed, f"name={name[:-1]}.$").lines == [name]
            assert docker(*listed, f"name=^{name[:-1]}$").lines == []
    finally:
        docker("volume", "rm", volume)


def test_a_container_that_is_not_there_cannot_be_disconnected_even_by_force(
    docker: DockerClient, network: str, unique: Callable[[str], str]
) -> None:
    nobody = unique("nobody")
    failed = docker.fails("network", "disconnect", "--force", network, nobody)
    assert failed.code == 1
    assert f"endpoint {nobody} not found" in failed.stderr
