"""``buildx`` with its docker driver, on Docker's socket: ``POST /grpc`` and ``POST /session``. What users have."""

import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine
from tests.support.go_clients import GoClient, go_program
from tests.support.registry import Registry

pytestmark = pytest.mark.root


class Buildx:
    """Calls of ``buildx`` in one directory, with ``DOCKER_HOST``."""

    def __init__(self, client: GoClient, host: str, context: Path) -> None:
        self._client = client
        self._env = {"DOCKER_HOST": host}
        self._context = context

    def __call__(self, *arguments: str, **env: str) -> Result:
        return self._client(*arguments, cwd=self._context, env={**self._env, **env})

    def build(self, dockerfile: str, *arguments: str, **env: str) -> Result:
        """Build, with progress in plain text on standard error."""
        (self._context / "Dockerfile").write_text(dockerfile)
        return self("build", "--progress", "plain", *arguments, ".", **env)

    def fails(self, dockerfile: str, *arguments: str) -> str:
        """Build what cannot be built; return what is said."""
        (self._context / "Dockerfile").write_text(dockerfile)
        result = self._client.fails("build", "--progress", "plain", *arguments, ".", cwd=self._context, env=self._env)
        assert result.code == 1
        return result.stdout + result.stderr


@pytest.fixture
def buildx(engine: Engine, tmp_path: Path, context: Path) -> Buildx:
    home = tmp_path / "home"
    home.mkdir()
    return Buildx(GoClient(go_program("buildx"), home), engine.host, context)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A socket, which is what an agent is to those who forward it."""
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


def test_the_driver_is_docker_s(buildx: Buildx) -> None:
    shown = buildx("inspect").stdout
    assert "Driver: docker\n" in shown
    assert "org.mobyproject.buildkit.worker.moby.host-gateway-ip" in shown


def test_an_image_is_in_the_store_by_all_that_is_told_of_it(
    buildx: Buildx, docker: DockerClient, image: str, context: Path
) -> None:
    shown = buildx.build(
        f"FROM {image}\nRUN echo built > /file\nCMD cat /file\n",
        "-t", "driver:1", "--iidfile", "iid", "--metadata-file", "said.json",
    ).stderr  # fmt: skip
    assert "naming to docker.io/library/driver:1" in shown
    said = json.loads((context / "said.json").read_text())
    assert said["image.name"] == "docker.io/library/driver:1"
    for name in ("driver:1", (context / "iid").read_text(), said["containerimage.digest"]):
        assert docker("run", "--rm", "--network", "none", name).stdout == "built\n"
    quiet = buildx("build", "-q", ".").line
    assert docker("run", "--rm", "--network", "none", quiet).stdout == "built\n"
    docker("rmi", "driver:1")


def test_a_digest_that_is_told_is_the_registry_s(
    buildx: Buildx, docker: DockerClient, image: str, registry: Registry, context: Path
) -> None:
    large = f"FROM {image}\nRUN head -c 17000000 /dev/urandom > /large\n"  # gets a blob when one is needed
    name = f"{registry.address}/told:1"

    def told() -> str:
        digest: str = json.loads((context / "said.json").read_text())["containerimage.digest"]
        return digest

    buildx.build(large, "-t", name, "--iidfile", "iid", "--metadata-file", "said.json")
    made = docker("image", "inspect", "--format", "{{.Id}}", name).line
    assert (context / "iid").read_text() == told() == made  # as long as it has no digest, as with dockerd
    docker("push", name)
    pushed = docker("image", "inspect", "--format", '{{join .RepoDigests " "}}', name).line
    assert pushed == f"{registry.address}/told@{digest_of(registry, 'told', '1')}"
    assert docker("image", "inspect", "--format", "{{.Id}}", name).line == made

    buildx.build(large, "-t", name, "--provenance", "false", "--metadata-file", "said.json")
    assert f"{registry.address}/told@{told()}" == pushed
    docker("rmi", name)
    docker("builder", "prune", "--all", "--force")

    buildx.build(large, "-t", name, "--push", "--iidfile", "iid", "--metadata-file", "said.json")
    assert (context / "iid").read_text() == told() == digest_of(registry, "told", "1")
    assert docker("run", "--rm", "--network", "none", told(), "cat", "/etc/hostname").code == 0
    docker("rmi", name)


def digest_of(registry: Registry, repository: str, tag: str) -> str:
    """Return the digest that a registry has of a tag."""
    accepted = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    url = f"{registry.url}/v2/{repository}/manifests/{tag}"
    return registry.session().head(url, headers={"Accept": accepted}, timeout=60).headers["Docker-Content-Digest"]


def test_the_failing_line_is_shown(buildx: Buildx, image: str) -> None:
    said = buildx.fails(f"FROM {image}\n\nRUN echo before && \\\n    exit 7\n")
    assert "   3 | >>> RUN echo before && \\\n   4 | >>>     exit 7\n" in said
    assert said.rstrip().endswith("did not complete successfully: exit code: 7")
    assert "   2 | >>> COPY nothing /\n" in buildx.fails("FROM scratch\nCOPY nothing /\n")
    assert "unknown instruction: FRUIT" in buildx.fails("FROM scratch\nFRUIT\n")


def test_secrets_are_files_and_variables_of_one_step(buildx: Buildx, image: str, context: Path) -> None:
    (context / "token").write_text("from a file")
    dockerfile = (
        f"FROM {image}\n"
        "RUN --mount=type=secret,id=file,required cat /run/secrets/file\n"
        "RUN --mount=type=secret,id=var,env=VAR [ \"$VAR\" = 'from the environment' ]\n"
        'RUN [ ! -e /run/secrets/file ] && [ -z "$VAR" ]\n'
    )
    secrets = ("--secret", "id=file,src=token", "--secret", "id=var,env=GIVEN")
    shown = buildx.build(dockerfile, *secrets, GIVEN="from the environment").stderr
    assert " from a file" in shown
    assert "secret file: not found" in buildx.fails(f"{dockerfile}# again\n", "--no-cache")


def test_an_agent_is_forwarded_to_one_step(buildx: Buildx, image: str, agent: Path) -> None:
    dockerfile = (
        f'FROM {image}\nRUN --mount=type=ssh,required [ -S "$SSH_AUTH_SOCK" ]\n'
        'RUN [ -z "$SSH_AUTH_SOCK" ] && [ -z "$(ls -A /run)" ]\n'
    )
    buildx.build(dockerfile, "--ssh", f"default={agent}")
    assert "unset ssh forward key default" in buildx.fails(dockerfile, "--no-cache")


def test_mounts_of_steps(buildx: Buildx, docker: DockerClient, image: str, context: Path) -> None:
    (context / "file").write_text("of the context\n")
    count = "RUN --mount=type=cache,target=/cache echo x >> /cache/all; wc -l < /cache/all > /count\n"
    dockerfile = (
        f"FROM {image}\nARG AGAIN\n{count}"
        "RUN --mount=type=bind,target=/there cp /there/file /copied; ! touch /there/new\n"
        "RUN --mount=type=bind,target=/there,rw touch /there/new\n"
        "RUN --mount=type=tmpfs,target=/scratch grep -q ' /scratch tmpfs ' /proc/mounts && echo > /scratch/file\n"
        "CMD cat /count /copied; ls -d /there/* /scratch/* /cache/* 2>/dev/null\n"
    )
    buildx.build(dockerfile, "--build-arg", "AGAIN=1")
    buildx.build(dockerfile, "--build-arg", "AGAIN=2", "-t", "mounts:1")
    said = docker.fails("run", "--rm", "--network", "none", "mounts:1").stdout
    assert said == "2\nof the context\n"
    docker("rmi", "mounts:1")


def test_here_documents(buildx: Buildx, docker: DockerClient, image: str) -> None:
    dockerfile = (
        f"FROM {image}\nENV WHO=world\nRUN <<EOF\necho one > /file\necho two >> /file\nEOF\n"
        "COPY <<first <<'second' /made/\nhello $WHO\nfirst\nhello $WHO\nsecond\nCMD cat /file /made/*\n"
    )
    buildx.build(dockerfile, "-t", "here:1")
    assert docker("run", "--rm", "--network", "none", "here:1").lines == ["one", "two", "hello world", "hello $WHO"]
    docker("rmi", "here:1")


def test_hosts_are_known_by_name(buildx: Buildx, image: str) -> None:
    hosts = ("--add-host", "db:1.2.3.4", "--add-host", "up:host-gateway")
    shown = buildx.build(f"FROM {image}\nRUN cat /etc/hosts\n", *hosts, "--no-cache").stderr
    assert "1.2.3.4\tdb\n" in shown
    assert "\tup\n" in shown


def test_outputs_of_every_type(buildx: Buildx, docker: DockerClient, image: str, context: Path) -> None:
    dockerfile = f"FROM {image} AS made\nRUN echo made > /file\nFROM scratch\nCOPY --from=made /file /\n"
    buildx.build(dockerfile, "-o", "out")
    assert (context / "out/file").read_text() == "made\n"
    for kind in ("tar", "oci", "docker"):
        buildx.build(dockerfile, "-t", "archived:1", "-o", f"type={kind},dest={kind}.tar")
    with tarfile.open(context / "tar.tar") as tar:
        assert tar.getnames() == ["file"]
    with tarfile.open(context / "oci.tar") as tar:
        assert {"index.json", "oci-layout"} <= set(tar.getnames())
    docker("load", "-i", str(context / "docker.tar"))
    assert docker("image", "inspect", "archived:1").code == 0
    docker("rmi", "archived:1")


def test_a_layout_of_the_clients_is_a_base(buildx: Buildx, docker: DockerClient, image: str, context: Path) -> None:
    buildx.build(f"FROM {image}\nRUN echo of the layout > /file\n", "-o", "type=oci,tar=false,dest=layout")
    layout = ("--build-context", "base=oci-layout://layout")
    built = buildx.build("FROM base\nRUN cat /file > /copied\n", *layout, "--iidfile", "iid").stderr
    assert "[context base] OCI load from client" in built
    assert docker("run", "--rm", (context / "iid").read_text(), "cat", "/copied").stdout == "of the layout\n"


def test_results_are_pushed_and_cached_in_a_registry(
    buildx: Buildx, docker: DockerClient, image: str, registry: Registry
) -> None:
    dockerfile = f"FROM {image} AS made\nRUN date +%s > /when\nFROM {image}\nCOPY --from=made /when /\n"
    cache, name = f"{registry.address}/build-cache:1", f"{registry.address}/pushed:1"
    buildx.build(dockerfile, "-t", name, "--push", "--cache-to", f"type=registry,ref={cache},mode=max")
    assert f"Name:      {name}" in buildx("imagetools", "inspect", name).stdout
    first = docker("run", "--rm", "--network", "none", name, "cat", "/when").stdout
    docker("rmi", name)
    buildx("prune", "--all", "--force")
    again = buildx.build(dockerfile, "-t", "again:1", "--cache-from", f"type=registry,ref={cache}").stderr
    assert " CACHED" in again
    assert docker("run", "--rm", "--network", "none", "again:1", "cat", "/when").stdout == first
    docker("rmi", "again:1")


def test_a_cache_travels_within_an_image(buildx: Buildx, docker: DockerClient, image: str, registry: Registry) -> None:
    dockerfile = f"FROM {image}\nRUN cat /proc/sys/kernel/random/uuid > /unique\n"
    name = f"{registry.address}/inline:1"
    buildx.build(dockerfile, "-t", name, "--push", "--cache-to", "type=inline")
    first = docker("run", "--rm", "--network", "none", name, "cat", "/unique").stdout
    docker("rmi", name)
    buildx("prune", "--all", "--force")
    buildx.build(dockerfile, "-t", "inline:2", "--cache-from", name)
    assert docker("run", "--rm", "--network", "none", "inline:2", "cat", "/unique").stdout == first
    docker("rmi", "inline:2")


def test_a_cache_is_a_directory_of_the_client(buildx: Buildx, docker: DockerClient, image: str) -> None:
    dockerfile = f"FROM {image}\nRUN cat /proc/sys/kernel/random/uuid > /unique\n"
    buildx.build(dockerfile, "-t", "local:1", "--cache-to", "type=local,dest=cache,mode=max")
    first = docker("run", "--rm", "--network", "none", "local:1", "cat", "/unique").stdout
    buildx("prune", "--all", "--force")
    buildx.build(dockerfile, "-t", "local:1", "--cache-from", "type=local,src=cache")
    assert docker("run", "--rm", "--network", "none", "local:1", "cat", "/unique").stdout == first
    docker("rmi", "local:1")


def test_contexts_with_names(buildx: Buildx, image: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("of the other\n")
    dockerfile = "FROM base\nCOPY --from=other file /\nRUN cat /file\n"
    contexts = ("--build-context", f"other={other}", "--build-context", f"base=docker-image://{image}")
    assert " of the other" in buildx.build(dockerfile, *contexts).stderr


def test_a_group_is_baked(buildx: Buildx, docker: DockerClient, image: str, context: Path) -> None:
    (context / "docker-bake.hcl").write_text(
        f'group "default" {{ targets = ["a", "b"] }}\n'
        f'target "base" {{ dockerfile-inline = "FROM {image}\\nRUN echo base > /base" }}\n'
        'target "a" {\n  contexts = { base = "target:base" }\n'
        '  dockerfile-inline = "FROM base\\nRUN echo a >> /base"\n  tags = ["bake-a:1"]\n}\n'
        'target "b" {\n  contexts = { base = "target:base" }\n'
        '  dockerfile-inline = "FROM base\\nRUN echo b >> /base"\n  tags = ["bake-b:1"]\n}\n'
    )
    buildx("bake", "--progress", "plain")
    for name in ("a", "b"):
        shown = docker("run", "--rm", "--network", "none", f"bake-{name}:1", "cat", "/base").stdout
        assert shown == f"base\n{name}\n"
    docker("rmi", "bake-a:1", "bake-b:1")


def test_a_dockerfile_is_described_and_not_built(buildx: Buildx, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch AS app\nARG WHO=me\ncopy Dockerfile /\n")
    assert "app (default)" in buildx("build", "--call", "targets", ".").stdout
    assert "WHO" in buildx("build", "--call", "outline", ".").stdout
    assert "   3 | >>> copy Dockerfile /" in buildx.fails((context / "Dockerfile").read_text(), "--call", "check")
