"""Networks of containers that do not run."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.docker_client import DockerClient


@pytest.fixture
def network(docker: DockerClient, unique: Callable[[str], str]) -> Iterator[str]:
    name = unique("net")
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def connected(docker: DockerClient, name: str) -> dict[str, list[str] | None]:
    found = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", name).line)
    return {network: settings["Aliases"] for network, settings in found.items()}


def test_created_container_can_leave_its_network_and_join_it_again(
    docker: DockerClient, image: str, network: str, unique: Callable[[str], str]
) -> None:
    # As docker-compose does with every container before its first start.
    name = unique("c")
    docker("create", "--name", name, "--network", network, "--network-alias", "old", image, "sleep", "1000")
    try:
        assert connected(docker, name) == {network: ["old"]}
        docker("network", "disconnect", network, name)
        assert connected(docker, name) == {}
        assert "is not connected to" in docker.fails("network", "disconnect", network, name).stderr
        docker("network", "connect", "--alias", "new", network, name)
        assert connected(docker, name) == {network: ["new"]}
        docker("start", name)
        lookup = ("run", "--rm", "--network", network, image, "nslookup", "new")
        assert docker(*lookup).code == 0
        docker("kill", name)
        docker("network", "disconnect", network, name)
        docker("network", "connect", network, name)
    finally:
        docker("rm", "--force", name)


@pytest.mark.parametrize(
    ("mode", "options", "sentence"),
    [
        ("host", ("--link", "{other}:db"), "conflicting options: host type networking can't be used with links."),
        ("host", ("--ip", "10.9.8.7"), "user specified IP address is supported on user defined networks only"),
        ("container:{other}", ("--link", "{other}:db"), "container type network can't be used with links."),
        ("none", ("--ip", "10.9.8.7"), "user specified IP address is supported on user defined networks only"),
    ],
)
def test_container_without_an_interface_of_its_own_can_ask_for_nothing_of_one(
    docker: DockerClient, image: str, sleeper: str, mode: str, options: tuple[str, ...], sentence: str
) -> None:
    asked = [text.format(other=sleeper) for text in ("--network", mode, *options)]
    failed = docker.fails("run", "--rm", *asked, image, "true")
    assert sentence in failed.stderr
