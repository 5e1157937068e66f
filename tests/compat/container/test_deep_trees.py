"""What a container has made a thousand levels deep goes the way of everything else."""

from collections.abc import Callable

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually

DEEP = "mkdir -p $(printf 'd/%.0s' $(seq 1 1000))"


def test_an_anonymous_volume_with_a_deep_tree_goes_with_its_container(docker: DockerClient, image: str) -> None:
    before = docker("volume", "ls", "--quiet").lines
    docker("run", "--rm", "--network", "none", "-v", "/v", image, "sh", "-c", f"cd /v; {DEEP}")
    assert docker("volume", "ls", "--quiet").lines == before
    assert docker("run", "--rm", "--network", "none", image, "echo", "served").stdout == "served\n"


def test_a_deep_tree_is_counted_told_committed_and_removed(
    docker: DockerClient, image: str, spawn: Spawn, container_name: Callable[[], str]
) -> None:
    name = spawn(image, "sh", "-c", f"mkdir /t; cd /t; {DEEP}; echo made; exec sleep 3600")
    eventually(lambda: "made" in docker("logs", name).stdout, "the tree is made")
    size = docker("ps", "--size", "--filter", f"name={name}", "--format", "{{.Size}}").stdout
    assert "(virtual " in size
    assert docker("diff", name).lines.count("A /t" + "/d" * 1000) == 1
    tag = f"{container_name()}:deep"
    docker("commit", name, tag)
    try:
        found = docker(
            "run", "--rm", "--network", "none", tag, "sh", "-c", "cd /t; ls -d $(printf 'd/%.0s' $(seq 1 1000))"
        )
        assert len(found.stdout) == 2001
    finally:
        docker("rmi", "--force", tag)
    docker("system", "df")
    docker("rm", "--force", name)
