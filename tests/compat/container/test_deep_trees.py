"""What a container has made a thousand levels deep goes the way of everything else."""

import io
import tarfile
from collections.abc import Callable

import pytest

from tests.compat.conftest import TARGET, Spawn
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


@pytest.mark.skipif(TARGET is not None, reason="dockerd leaves out what is below, and says so in its log alone")
@pytest.mark.parametrize("way", ["export", "cp"])
def test_a_path_longer_than_a_system_call_takes_is_copied(
    docker: DockerClient, spawn: Spawn, image: str, way: str
) -> None:
    part = "n" * 250
    script = f"mkdir /t; cd /t; for i in $(seq 20); do mkdir {part}; cd -P {part}; done; echo x > file; echo made"
    name = spawn(image, "sh", "-c", f"{script}; exec sleep 3600")
    eventually(lambda: "made" in docker("logs", name).stdout, "the tree is made")
    started = docker.start(*(("export", name) if way == "export" else ("cp", f"{name}:/t", "-")))
    archive, complaint = started.communicate(timeout=60)
    assert (started.returncode, complaint) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        (found,) = [each for each in opened if each.name.endswith("/file") and each.name.startswith("t/")]
        assert len(found.name) > 5000
        file = opened.extractfile(found)
        assert file is not None
        assert file.read() == b"x\n"
