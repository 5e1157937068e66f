"""The engine's own registry, used by docker, skopeo, podman and a second engine."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tests.compat.conftest import TARGET
from tests.support import images
from tests.support.docker_client import DockerClient
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.private_registry import PrivateRegistry
from tests.support.registry import Registry, make_certificate, make_htpasswd
from tests.support.tools import eventually, free_port, need
from tests.support.trees import busybox_image

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(TARGET is not None, reason="the registry is Sampan's own"),
]


@pytest.fixture(scope="module")
def served(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    """``sampan registry serve`` beside the engine that all tests share."""
    directory = tmp_path_factory.mktemp("registry")
    registry = Registry(f"127.0.0.1:{free_port()}", engine.layout.data("imaged"), directory / "log")
    running = PrivateRegistry(registry, engine.layout)
    running.process = serve(engine, registry)
    yield running
    assert running.stop(signal.SIGINT) == 0


def serve(engine: Engine, registry: Registry, *flags: str) -> subprocess.Popen[bytes]:
    """Start the command as users do, and wait until it answers."""
    command = [str(SAMPAN), "registry", "serve", "--listen", registry.address, *flags]
    with registry.log.open("ab") as log:
        process = subprocess.Popen(command, env=engine.env(), stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, registry.log.read_text()
        try:
            with registry.session() as session:
                return session.get(f"{registry.url}/v2/", timeout=60).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(answers, "the registry answers")
    return process


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerClient]:
    """docker, talking to another engine, which has nothing of the first one's."""
    with run_engine({"imaged": "retry_base_s = 0.05\n"}) as running:
        yield DockerClient(running.host, tmp_path_factory.mktemp("docker-config"))


def manifest(served: PrivateRegistry, path: str) -> requests.Response:
    with served.registry.session() as session:
        return session.get(served.url(path), timeout=60)


def run(*command: str, env: dict[str, str] | None = None) -> str:
    need(command[0])
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def test_what_docker_pushes_another_engine_runs(
    docker: DockerClient, second: DockerClient, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    name = f"{served.address}/team/{unique('app')}:1"
    docker("tag", image, name)
    pushed = docker("push", name)
    digest = pushed.lines[-1].split("digest: ")[1].split()[0]
    docker("rmi", name)
    assert manifest(served, f"{name.split('/', 1)[1].removesuffix(':1')}/manifests/1").status_code == 200
    second("pull", f"{name.removesuffix(':1')}@{digest}")
    assert second("run", "--rm", f"{name.removesuffix(':1')}@{digest}", "echo", "here").line == "here"


def test_search_finds_what_was_pushed_and_what_is_served(
    docker: DockerClient, engine: Engine, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    part = unique("found")
    pushed, tagged = f"{served.address}/team/{part}-pushed:1", f"{served.address}/{part}-tagged:1"
    for name in (pushed, tagged):
        docker("tag", image, name)
    docker("push", "--quiet", pushed)
    docker("rmi", pushed)
    names = [f"{part}-tagged", f"team/{part}-pushed"]
    found = docker("search", "--format", "{{.Name}}", f"{served.address}/{part.upper()}").lines
    assert sorted(found) == names
    assert sorted(engine.sampan("search", "--format", "{{.Name}}", f"{served.address}/{part}").lines) == names
    assert len(docker("search", "--limit", "1", f"{served.address}/{part}").lines) == 2
    docker("rmi", tagged)


def test_another_engine_pushes_what_it_committed(
    docker: DockerClient, second: DockerClient, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    base, changed = (f"{served.address}/{unique(word)}:1" for word in ("base", "changed"))
    docker("tag", image, base)
    docker("push", base)
    container = unique("c")
    second("run", "--name", container, base, "sh", "-c", "echo changed > /note")
    second("commit", container, changed)
    second("rm", container)
    second("push", changed)
    assert docker("run", "--rm", changed, "cat", "/note").line == "changed"


def test_image_tagged_with_the_registrys_name_is_served_without_a_push(
    docker: DockerClient, second: DockerClient, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    repository = unique("tagged")
    name = f"{served.address}/{repository}:1"
    docker("tag", image, name)
    assert manifest(served, f"{repository}/tags/list").json()["tags"] == ["1"]
    assert repository in manifest(served, "_catalog").json()["repositories"]
    assert second("run", "--rm", "--pull", "always", name, "echo", "here").line == "here"
    digest = manifest(served, f"{repository}/manifests/1").headers["Docker-Content-Digest"]
    refused = requests.delete(served.url(f"{repository}/manifests/{digest}"), timeout=60)
    assert refused.status_code == 405
    docker("rmi", name)
    assert manifest(served, f"{repository}/manifests/1").status_code == 404


def test_push_of_what_is_served_already_moves_no_bytes(
    docker: DockerClient, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    repository = unique("pushed")
    name = f"{served.address}/{repository}:1"
    docker("tag", image, name)
    assert "Layer already exists" in docker("push", name).stdout
    docker("rmi", name)
    assert manifest(served, f"{repository}/manifests/1").status_code == 200


def test_images_of_other_names_are_not_served(
    docker: DockerClient, served: PrivateRegistry, image: str, unique: Callable[[str], str]
) -> None:
    repository = unique("private")
    docker("tag", image, f"docker.io/{repository}/app:1")
    answer = requests.get(served.url(f"{repository}/app/manifests/1"), headers={"Host": "docker.io"}, timeout=60)
    assert answer.status_code == 404


def test_what_was_pushed_outlives_the_engines_images_and_their_pruning(
    engine: Engine, docker: DockerClient, served: PrivateRegistry, unique: Callable[[str], str]
) -> None:
    own = images.Image([images.layer(images.tar(images.Entry("note", unique("x").encode())))])
    repository = unique("kept")
    images.push(served.registry, repository, "1", own)
    name = f"{served.address}/{repository}:1"
    docker("pull", name)
    docker("rmi", name)
    engine.kill("imaged")
    for part in (own.config_blob(), own.layers[0].blob):
        answer = manifest(served, f"{repository}/blobs/{images.sha256(part)}")
        assert (answer.status_code, answer.content) == (200, part)
    assert docker("pull", name).lines[-1] == name
    docker("rmi", name)


def test_index_of_which_one_platform_is_here_is_served_as_that_platform(
    docker: DockerClient, served: PrivateRegistry, registry: Registry, unique: Callable[[str], str]
) -> None:
    repository = unique("many")
    both = [replace(busybox_image(), architecture=which) for which in ("amd64", "arm64")]
    images.push_index(registry, repository, "1", both)
    docker("pull", f"{registry.address}/{repository}:1")
    docker("tag", f"{registry.address}/{repository}:1", f"{served.address}/{repository}:1")
    found = manifest(served, f"{repository}/manifests/1")
    assert found.json()["config"]["digest"] in {each.id for each in both}
    images.push_index(served.registry, repository, "2", both)
    assert len(manifest(served, f"{repository}/manifests/2").json()["manifests"]) == 2
    run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{served.address}/{repository}:2",
        f"oci:{served.registry.log.parent}/{repository}:2")  # fmt: skip


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_pulls_and_pushes(served: PrivateRegistry, unique: Callable[[str], str]) -> None:
    repository = unique("podman")
    images.push(served.registry, repository, "1", busybox_image())
    name = f"{served.address}/{repository}"
    with tempfile.TemporaryDirectory(prefix="pod", dir="/tmp") as root:  # podman's run root must be short
        roots = ("--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver", "vfs")
        run("podman", *roots, "pull", "--tls-verify=false", f"{name}:1")
        run("podman", *roots, "push", "--tls-verify=false", f"{name}:1", f"{name}:2")
    assert manifest(served, f"{repository}/tags/list").json()["tags"] == ["1", "2"]


def test_docker_logs_in_over_tls_and_pushes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, unique: Callable[[str], str]
) -> None:
    port = free_port()
    ca = make_certificate(tmp_path)
    certs = tmp_path / "certs.d" / f"127.0.0.1:{port}"
    certs.mkdir(parents=True)
    (certs / "ca.crt").write_bytes(ca.read_bytes())
    users = make_htpasswd(tmp_path, ("alice", "sesame"))
    registry = Registry(f"127.0.0.1:{port}", tmp_path, tmp_path / "log", ("alice", "sesame"), ca)
    with run_engine({"imaged": f'certs_dirs = ["{tmp_path}/certs.d"]\n'}) as engine:
        docker = DockerClient(engine.host, tmp_path_factory.mktemp("docker-config"))
        tls = ("--tls-cert", f"{tmp_path}/server.crt", "--tls-key", f"{tmp_path}/server.key")
        process = serve(engine, registry, "--htpasswd", str(users), *tls)
        try:
            images.push(registry, "app", "1", busybox_image())
            name = f"{registry.address}/app:1"
            assert "no basic auth credentials" in docker.fails("pull", name).stderr
            wrong = docker.fails("login", "-u", "alice", "--password-stdin", registry.address, input="wrong")
            assert wrong.code == 1
            docker("login", "-u", "alice", "--password-stdin", registry.address, input="sesame")
            docker("pull", name)
            docker("tag", name, f"{registry.address}/app:2")
            docker("push", f"{registry.address}/app:2")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def test_command_without_an_engine_says_so(tmp_path: Path) -> None:
    env = dict(os.environ) | {"SAMPAN_DATA_ROOT": str(tmp_path / "d"), "SAMPAN_RUN_ROOT": "/tmp/no-engine-here"}
    done = subprocess.run([SAMPAN, "registry", "serve"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Cannot connect to the Sampan engine at /tmp/no-engine-here" in done.stderr


def test_second_registry_of_one_engine_is_refused(engine: Engine, served: PrivateRegistry) -> None:
    assert served.process is not None
    refused = engine.sampan_fails("registry", "serve", "--listen", "127.0.0.1:0")
    assert refused.code == 1
    assert f"this engine's registry is served already, by process {served.process.pid}" in refused.stderr


def test_command_says_what_is_wrong_with_its_flags(engine: Engine) -> None:
    assert engine.sampan_fails("registry", "serve", "--max-blob-size", "much").code == 125
    assert engine.sampan_fails("registry", "serve", "--htpasswd", "/nonexistent").code == 125
