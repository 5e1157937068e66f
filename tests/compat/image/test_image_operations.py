"""``docker push``, ``save``, ``load``, ``commit`` and ``export``; what leaves the engine is read by other tools."""

import gzip
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import docker as sdk_package
import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient, Result, UnixConnection, result_of
from tests.support.images import Entry, tar
from tests.support.registry import Registry, run_registry
from tests.support.tools import need
from tests.support.trees import busybox_image

Unique = Callable[[str], str]
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


def skopeo(*arguments: str) -> str:
    """Run skopeo and return what it prints."""
    need("skopeo")
    done = subprocess.run(["skopeo", *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def output_of(docker: DockerClient, *arguments: str) -> bytes:
    """Run ``docker``, which must succeed, and return the bytes that it writes."""
    done = subprocess.run(["docker", *arguments], capture_output=True, timeout=60, env=docker.env())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def fed(docker: DockerClient, archive: bytes, *arguments: str) -> Result:
    """Run ``docker`` with an archive on stdin, whatever its exit code."""
    done = subprocess.run(["docker", *arguments], input=archive, capture_output=True, timeout=60, env=docker.env())
    return result_of(done)


def sent(
    docker: DockerClient, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
) -> tuple[int, list[dict[str, Any]]]:
    """POST to the engine and return the status and the messages of its answer."""
    with closing(UnixConnection(docker.host.removeprefix("unix://"))) as connection:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines()]


def image_id(docker: DockerClient, name: str) -> str:
    """Return an image's ID."""
    return docker("image", "inspect", "--format", "{{.Id}}", name).line


def digest_in(registry: Registry, repository: str, tag: str) -> str:
    """Return what the registry has under a tag."""
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    with registry.session() as session:
        url = f"{registry.url}/v2/{repository}/manifests/{tag}"
        answer = session.head(url, headers={"Accept": accept}, timeout=60)
    answer.raise_for_status()
    digest: str = answer.headers["Docker-Content-Digest"]
    return digest


@pytest.fixture
def fresh_registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with nothing in it."""
    with run_registry(tmp_path / "registry") as running:
        yield running


def test_push_draws_layers_and_tells_the_digest(
    docker: DockerClient, image: str, fresh_registry: Registry, unique: Unique
) -> None:
    name = f"{fresh_registry.address}/{unique('team/app')}"
    docker("tag", image, f"{name}:x")
    lines = docker("push", f"{name}:x").lines
    layer = busybox_image().layers[0].diff_id[7:19]
    assert lines[0] == f"The push refers to repository [{name}]"
    assert f"{layer}: Pushed" in lines
    repository = name.partition("/")[2]
    digest = digest_in(fresh_registry, repository, "x")
    assert lines[-1].startswith(f"x: digest: {digest} size: ")
    assert f"{name}@{digest}" in docker("image", "inspect", "--format", "{{.RepoDigests}}", f"{name}:x").line
    assert f"{layer}: Layer already exists" in docker("push", f"{name}:x").lines
    docker("rmi", f"{name}:x")


def test_what_was_pushed_is_pulled_by_digest_and_read_by_skopeo(
    docker: DockerClient, image: str, fresh_registry: Registry
) -> None:
    name = f"{fresh_registry.address}/app"
    docker("tag", image, f"{name}:1")
    docker("push", "--quiet", f"{name}:1")
    digest = digest_in(fresh_registry, "app", "1")
    docker("rmi", f"{name}:1")
    docker("pull", "--quiet", f"{name}@{digest}")
    assert docker("run", "--rm", f"{name}@{digest}", "echo", "same").line == "same"
    docker("rmi", f"{name}@{digest}")
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}:1"))
    assert shown["Digest"] == digest


def test_push_mounts_layers_from_where_they_are(
    docker: DockerClient, image: str, registry: Registry, unique: Unique
) -> None:
    name = f"{registry.address}/{unique('mounted')}"
    docker("tag", image, f"{name}:1")
    # Other tests push the same layer to other repositories, and any of these serves.
    assert any("Mounted from " in line for line in docker("push", f"{name}:1").lines)
    docker("rmi", f"{name}:1")


def test_push_all_tags(docker: DockerClient, image: str, fresh_registry: Registry) -> None:
    name = f"{fresh_registry.address}/app"
    for tag in ("1", "2"):
        docker("tag", image, f"{name}:{tag}")
    docker("push", "--all-tags", name)
    assert digest_in(fresh_registry, "app", "1") == digest_in(fresh_registry, "app", "2")
    docker("rmi", f"{name}:1", f"{name}:2")


def test_push_of_what_is_not_here_says_so(docker: DockerClient, image: str) -> None:
    failed = docker.fails("push", "nonesuch:1")
    assert (failed.code, failed.stderr.strip()) == (1, "An image does not exist locally with the tag: nonesuch")
    failed = docker.fails("push", f"{image}-none")
    assert (failed.code, failed.stderr.strip()) == (1, f"tag does not exist: {image}-none")


def test_push_with_credentials_and_without(docker: DockerClient, image: str, tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", credentials=("ann", "secret")) as private:
        name = f"{private.address}/app:1"
        docker("tag", image, name)
        failed = docker.fails("push", name)
        assert failed.code == 1
        assert "no basic auth credentials" in failed.stderr
        docker("login", "--username", "ann", "--password", "secret", private.address)
        docker("push", "--quiet", name)
        docker("logout", private.address)
        docker("rmi", name)


def test_saved_images_are_read_by_skopeo_in_both_formats(docker: DockerClient, image: str, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    docker("save", "--output", str(saved), image)
    for form in ("docker-archive", "oci-archive"):
        shown = json.loads(skopeo("inspect", "--config", f"{form}:{saved}"))
        assert shown["rootfs"]["diff_ids"] == [busybox_image().layers[0].diff_id]
    config = skopeo("inspect", "--raw", "--config", f"oci-archive:{saved}").encode()
    assert config == busybox_image().config_blob()


def test_saved_images_are_loaded_again(docker: DockerClient, image: str, unique: Unique) -> None:
    first, second = f"{unique('one')}:1", f"{unique('two')}:2"
    docker("tag", image, first)
    docker("tag", image, second)
    archive = output_of(docker, "save", first, second)
    docker("rmi", first, second)
    loaded = fed(docker, archive, "load")
    assert sorted(loaded.lines) == sorted([f"Loaded image: {first}", f"Loaded image: {second}"])
    assert image_id(docker, first) == busybox_image().id
    docker("rmi", first, second)


def test_archives_of_other_tools_are_loaded(docker: DockerClient, image: str, tmp_path: Path, unique: Unique) -> None:
    saved = tmp_path / "image.tar"
    docker("save", "--output", str(saved), image)
    name = f"docker.io/library/{unique('skopeo')}:1"
    skopeo("copy", f"oci-archive:{saved}", f"docker-archive:{tmp_path}/docker.tar:{name}")
    skopeo("copy", f"docker-archive:{saved}", f"oci-archive:{tmp_path}/oci.tar:{name}-oci")
    short = name.removeprefix("docker.io/library/")
    assert docker("load", "--input", f"{tmp_path}/docker.tar").line == f"Loaded image: {short}"
    assert image_id(docker, short) == busybox_image().id
    assert docker("load", "--input", f"{tmp_path}/oci.tar").line == f"Loaded image: {short}-oci"
    assert docker("run", "--rm", f"{short}-oci", "echo", "oci").line == "oci"
    docker("rmi", short, f"{short}-oci")


def test_an_image_saved_by_its_id_has_no_name(docker: DockerClient, image: str) -> None:
    archive = output_of(docker, "save", image_id(docker, image))
    assert fed(docker, archive, "load").line == f"Loaded image ID: {busybox_image().id}"


@pytest.mark.parametrize("compress", [False, True])
def test_load_of_a_broken_archive_says_so_and_leaves_nothing(
    docker: DockerClient, image: str, compress: bool, nothing_left: None
) -> None:
    archive = output_of(docker, "save", image)
    archive = gzip.compress(archive)[:-1000] if compress else archive[: len(archive) // 2]
    before = docker("images", "--all", "--quiet", "--no-trunc").lines
    failed = fed(docker, archive, "load")
    assert failed.code == 1
    assert "ends" in failed.stderr
    assert docker("images", "--all", "--quiet", "--no-trunc").lines == before


def test_load_of_something_else_says_so(docker: DockerClient) -> None:
    failed = fed(docker, bytes(1 << 20), "load")
    assert (failed.code, "not an archive of images" in failed.stderr) == (1, True)


def test_save_of_an_unknown_image_says_so(docker: DockerClient, tmp_path: Path) -> None:
    failed = docker.fails("save", "--output", str(tmp_path / "x"), "nonesuch")
    assert (failed.code, "No such image: nonesuch" in failed.stderr) == (1, True)
    assert not (tmp_path / "x").exists()


def test_commit_makes_an_image_of_the_changes(docker: DockerClient, image: str, spawn: Spawn, unique: Unique) -> None:
    container, name = spawn(image, "sh", "-c", "echo 1 > /new; rm /etc/passwd; sleep 3600"), f"{unique('commit')}:1"
    docker("exec", container, "sh", "-c", "until [ -e /new ] && ! [ -e /etc/passwd ]; do :; done")
    change = 'CMD ["cat", "/new"]'
    committed = docker("commit", "--author", "Ann", "--message", "why", "--change", change, container, name).line
    assert image_id(docker, name) == committed
    assert docker("run", "--rm", name).line == "1"
    assert docker.fails("run", "--rm", name, "ls", "/etc/passwd").code == 1
    shown: dict[str, Any] = json.loads(docker("image", "inspect", name).stdout)[0]
    assert (shown["Parent"], shown["Author"], shown["Comment"]) == (busybox_image().id, "Ann", "why")
    assert shown["RootFS"]["Layers"][0] == busybox_image().layers[0].diff_id
    history = docker("history", "--no-trunc", "--format", "{{.ID}} {{.Comment}}", name).lines
    assert [line.strip() for line in history] == [f"{committed} why", busybox_image().id]
    assert docker("inspect", "--format", "{{.State.Status}}", container).line == "running"
    docker("rmi", name)


def test_commit_leaves_out_what_the_engine_puts_into_containers(
    docker: DockerClient, image: str, container_name: Callable[[], str], unique: Unique
) -> None:
    docker("run", "--name", (container := container_name()), image, "touch", "/only")
    docker("commit", container, name := f"{unique('commit')}:1")
    with tarfile.open(fileobj=io.BytesIO(output_of(docker, "save", name))) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        layer = archive.extractfile(json.load(file)[0]["Layers"][-1])
        assert layer is not None
        with tarfile.open(fileobj=layer) as changes:
            assert changes.getnames() == ["only"]
    docker("rmi", name)


def test_a_committed_image_is_pushed_and_pulled(
    docker: DockerClient, image: str, container_name: Callable[[], str], fresh_registry: Registry
) -> None:
    docker("run", "--name", (container := container_name()), image, "touch", "/only")
    name = f"{fresh_registry.address}/committed:1"
    committed = docker("commit", container, name).line
    docker("push", "--quiet", name)
    docker("rmi", name)
    docker("pull", "--quiet", name)
    assert image_id(docker, name) == committed
    assert docker("run", "--rm", name, "ls", "/only").line == "/only"
    docker("rmi", name)


def test_commit_of_nothing_and_of_nobody(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    docker("create", "--name", (container := container_name()), image)
    committed = docker("commit", container).line
    layers = json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", committed).line)
    assert layers == [busybox_image().layers[0].diff_id]
    docker("rmi", committed)
    failed = docker.fails("commit", "nonesuch")
    assert (failed.code, "No such container: nonesuch" in failed.stderr) == (1, True)
    failed = docker.fails("commit", container, "Upper:1")
    assert (failed.code, "must be lowercase" in failed.stderr) == (1, True)


@pytest.mark.parametrize("running", [False, True])
def test_export_is_the_whole_file_system(
    docker: DockerClient, image: str, container_name: Callable[[], str], running: bool
) -> None:
    container = container_name()
    script = "echo 1 > /a; ln /a /b; chown 12:34 /a; rm /etc/passwd; touch /ready"
    flags = ("--detach",) if running else ()
    docker("run", "--name", container, *flags, image, "sh", "-c", script + ("; sleep 3600" if running else ""))
    if running:
        docker("exec", container, "sh", "-c", "until [ -e /ready ]; do :; done")
    exported = output_of(docker, "export", container)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        names = archive.getnames()
        assert {"a", "b", "bin/sh"} <= set(names)
        assert "etc/passwd" not in names
        assert (archive.getmember("a").uid, archive.getmember("a").gid) == (12, 34)
        assert archive.getmember("b").islnk()


def test_export_is_imported_again(
    docker: DockerClient, image: str, container_name: Callable[[], str], unique: Unique
) -> None:
    docker("run", "--name", (container := container_name()), image, "touch", "/only")
    exported = output_of(docker, "export", container)
    name = unique("flat")
    assert fed(docker, exported, "import", "--change", "CMD ls /only", "-", name).code == 0
    assert docker("run", "--rm", name).line == "/only"
    docker("rmi", name)
    failed = docker.fails("export", "nonesuch")
    assert (failed.code, "No such container: nonesuch" in failed.stderr) == (1, True)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that serves ``tmp_path``."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_archive_is_imported_from_the_web(
    docker: DockerClient, web: str, tmp_path: Path, unique: Unique, sdk: sdk_package.DockerClient
) -> None:
    name, content = unique("web"), os.urandom(9_000_000)
    (tmp_path / "root.tar").write_bytes(tar(Entry("there", content)))
    done = docker("import", "--change", "CMD /there", f"http://{web}/root.tar", f"{name}:1")
    assert done.lines[0].startswith(f"Downloading from http://{web}/root.tar")
    assert done.line.endswith(image_id(docker, f"{name}:1"))
    messages = [json.loads(line) for line in sdk.api.import_image_from_url(f"{web}/root.tar", f"{name}:2").splitlines()]
    assert messages[0]["status"] == f"Downloading from http://{web}/root.tar"
    moving = [each for each in messages if each["status"] == "Importing"]
    assert moving
    assert moving[-1]["progressDetail"]["total"] > len(content)
    assert messages[-1]["status"] == image_id(docker, f"{name}:2")
    docker("rmi", f"{name}:1", f"{name}:2")


def test_archive_that_is_not_on_the_web_is_named(
    docker: DockerClient, web: str, tmp_path: Path, nothing_left: None
) -> None:
    (tmp_path / "text").write_text("no archive")
    for url, complaint in {
        f"http://{web}/missing": f"failed to GET http://{web}/missing with status 404 File not found",
        "http://127.0.0.1:1/x": 'Get "http://127.0.0.1:1/x"',
    }.items():
        failed = docker.fails("import", url, "web:bad")
        assert (failed.code, complaint in failed.stderr) == (1, True), failed.stderr
    assert docker.fails("import", f"http://{web}/text", "web:bad").code == 1


def test_archive_that_is_none_is_answered_in_the_stream(docker: DockerClient) -> None:
    status, messages = sent(docker, "/images/load", b"garbage" * 200)
    assert status == 200
    assert messages[-1]["errorDetail"]["message"] == messages[-1]["error"]


@pytest.mark.parametrize("header", ["%%%", "bnVsbA==", "W10=", "bm90aGluZw=="])
def test_credentials_that_cannot_be_read_are_nobodys(
    docker: DockerClient, image: str, fresh_registry: Registry, unique: Unique, header: str
) -> None:
    name = f"{fresh_registry.address}/{unique('anonymous')}"
    docker("tag", image, f"{name}:1")
    for path in (f"/images/{name}/push?tag=1", f"/images/create?fromImage={name}&tag=1"):
        status, messages = sent(docker, path, headers={"X-Registry-Auth": header})
        assert (status, "error" in messages[-1]) == (200, False), messages
    docker("rmi", f"{name}:1")
