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
