"""Compose builds the images of services: through BuildKit's interface and, told so, through the classic one."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.registry import Registry
from tests.support.tools import eventually

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def compose(tmp_path: Path) -> GoClient:
    """``docker compose`` as a program of its own, with the project "built"."""
    home = tmp_path / "home"
    home.mkdir()
    return GoClient(go_program("compose"), home, ("--project-name", "built", "--progress", "plain"))


@pytest.mark.parametrize("buildkit", ["1", "0"])
def test_services_are_built_and_started(
    compose: GoClient, docker: DockerClient, engine: Engine, image: str, context: Path, buildkit: str
) -> None:
    env = {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": buildkit, "COMPOSE_BAKE": "false"}
    for name in ("one", "two"):
        (context / name).mkdir()
        (context / name / "file").write_text(f"file of {name}\n")
        (context / name / "Dockerfile").write_text(
            f"FROM {image} AS base\nARG WHO\nRUN echo $WHO > /who\n"
            "FROM base AS app\nCOPY file /\nCMD cat /who /file\nFROM base AS unused\nRUN false\n"
        )
    (context / "compose.yaml").write_text(
        "services:\n"
        "  one:\n    build: {context: one, target: app, args: {WHO: first}}\n    network_mode: none\n"
        "  two:\n    build: {context: two, target: app, args: {WHO: second}}\n    network_mode: none\n"
        "    image: named-by-compose:1\n"
    )
    compose("build", cwd=context, env=env)
    shown = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").lines
    assert {"built-one:latest", "named-by-compose:1"} <= set(shown)
    (context / "two/file").write_text("changed\n")
    started = compose("up", "--build", cwd=context, env=env).stdout
    for line in ("first", "file of one", "second", "changed"):
        assert f"| {line}\n" in started
    compose("down", "--rmi", "all", cwd=context, env=env)
    assert "named-by-compose:1" not in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").lines


# What a file of Compose's can ask of a build, and what shows that it was done.
OPTIONS = """
services:
  app:
    image: {registry}/composed/app:1
    network_mode: none
    build:
      context: app
      target: final
      args: {{WHO: me}}
      labels: {{com.example.of: compose}}
      additional_contexts: {{lib: ./lib}}
      secrets: [token, variable]
      ssh: [default]
      cache_from: ["type=registry,ref={registry}/composed/cache:1"]
      cache_to: ["type=registry,ref={registry}/composed/cache:1,mode=max"]
      platforms: [linux/amd64]
      network: none
      extra_hosts: ["neighbour:10.1.2.3"]
      shm_size: 32m
      tags: ["{registry}/composed/app:more"]
      provenance: mode=max
  inline:
    network_mode: none
    build:
      context: app{linked}
      dockerfile_inline: |
        FROM {base}
        RUN echo inline > /who
        CMD cat /who
      provenance: false
secrets:
  token: {{file: token}}
  variable: {{environment: OF_THE_SHELL}}
"""

DOCKERFILE = """
FROM {image} AS base
ARG WHO=nobody
ARG TARGETPLATFORM
RUN --mount=type=secret,id=token --mount=type=secret,id=variable \\
    cat /run/secrets/token /run/secrets/variable | md5sum | cut -d' ' -f1 > /secrets.sum
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"
RUN echo "$WHO $TARGETPLATFORM" > /who && grep neighbour /etc/hosts >> /who && ls /sys/class/net >> /who
RUN df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /who
COPY --from=lib file /
FROM base AS final
CMD cat /who /secrets.sum /file
FROM base AS unused
RUN false
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """An SSH agent without keys."""
    if shutil.which("ssh-agent") is None:
        pytest.skip("OpenSSH is not installed")
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    eventually(socket.exists, "the agent listens")
    yield socket
    process.terminate()
    process.wait(60)


@pytest.mark.parametrize("bake", ["true", "false"])
def test_all_that_a_file_says_of_a_build_is_done(
    compose: GoClient,
    docker: DockerClient,
    engine: Engine,
    image: str,
    registry: Registry,
    agent: Path,
    context: Path,
    bake: str,
) -> None:
    (compose.home / "cli-plugins").mkdir()
    (compose.home / "cli-plugins/docker-buildx").symlink_to(go_program("buildx"))  # which bakes
    env = {"DOCKER_HOST": engine.host, "COMPOSE_BAKE": bake, "OF_THE_SHELL": "two", "SSH_AUTH_SOCK": str(agent)}
    for name in ("app", "lib"):
        (context / name).mkdir()
    (context / "app/Dockerfile").write_text(DOCKERFILE.format(image=image))
    (context / "lib/file").write_text("of another context\n")
    (context / "token").write_text("one")
    # Bake gives one build the other's graph, with directories that only the other one's session has.
    linked, base = ('\n      additional_contexts: {built: "service:app"}', "built") if bake == "true" else ("", image)
    (context / "compose.yaml").write_text(OPTIONS.format(registry=registry.address, linked=linked, base=base))
    compose("build", cwd=context, env=env)
    name = f"{registry.address}/composed/app"
    shown = json.loads(docker("image", "inspect", f"{name}:more").stdout)[0]
    assert shown["Config"]["Labels"]["com.example.of"] == "compose"
    started = compose("up", "--no-build", cwd=context, env=env).stdout
    lines = [line.partition("| ")[2] for line in started.splitlines() if line.startswith("app-1")]
    secrets = hashlib.md5(b"onetwo", usedforsecurity=False).hexdigest()
    shared_memory = "32768" if bake == "true" else "65536"  # Compose's own way leaves it out
    assert lines == ["me linux/amd64", "10.1.2.3\tneighbour", "lo", shared_memory, secrets, "of another context"]
    assert any(line.startswith("inline-1") and line.endswith("| inline") for line in started.splitlines())
    compose("down", cwd=context, env=env)
    compose("build", "--push", "app", cwd=context, env=env)
    docker("rmi", f"{name}:1", f"{name}:more")
    for tag in ("1", "more"):
        pushed = docker("run", "--rm", "--network", "none", "--pull", "always", f"{name}:{tag}").stdout
        assert pushed.splitlines() == lines
    docker("rmi", f"{name}:1", f"{name}:more", "built-inline")
    with registry.session() as session:
        session.headers["Accept"] = f"{OCI_INDEX}, {OCI_MANIFEST}"
        cached = session.get(f"{registry.url}/v2/composed/cache/manifests/1", timeout=60)
        index = session.get(f"{registry.url}/v2/composed/app/manifests/1", timeout=60)
    assert cached.status_code == 200
    kinds = [each.get("annotations", {}).get("vnd.docker.reference.type") for each in index.json()["manifests"]]
    assert kinds == [None, "attestation-manifest"]
