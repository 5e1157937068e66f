"""Images for several platforms: the index that a name points to stays whole wherever it goes."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.compat.conftest import TARGET
from tests.compat.image.test_image_operations import output_of, skopeo
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import OCI_INDEX, Entry, Image, descriptor, layer, push, push_manifest, sha256, tar
from tests.support.registry import Registry
from tests.support.trees import busybox_image

Unique = Callable[[str], str]


# What is in the foreign image: another thing in each test, since an image that other tests know keeps what it had.
CONTENT = {"arm": b"arm"}


def arm_image() -> Image:
    """Return an image that no host of these tests runs."""
    return Image([layer(tar(Entry("arm", CONTENT["arm"])))], oci=True, architecture="arm64", variant="v8")


def index_of(images: list[Image]) -> bytes:
    """Return an index with annotations, laid out as no writer does it."""
    entries = []
    for image in images:
        content = image.manifest()
        platform = {"os": "linux", "architecture": image.architecture}
        fields = {"platform": platform, "annotations": {"org.example.note": "<ünï>"}}
        entries.append({**descriptor(image.media_type, content, len(content)), **fields})
    index = {"annotations": {"z": "1", "a": "2"}, "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json.dumps(index, indent=3, ensure_ascii=False).encode() + b"\n"


@pytest.fixture
def index(registry: Registry, docker: DockerClient, unique: Unique) -> Iterator[tuple[str, bytes]]:
    """The name of an index in the registry, and its bytes; its images go with the test."""
    repository = unique("multi")
    CONTENT["arm"] = repository.encode()
    images = [replace(busybox_image(), oci=True), arm_image()]
    for image in images:
        push(registry, repository, image.architecture, image)
    content = index_of(images)
    push_manifest(registry, repository, "1", OCI_INDEX, content)
    name = f"{registry.address}/{repository}:1"
    yield name, content
    repository = name.removesuffix(":1")
    docker.fails("rmi", "--force", name, f"{repository}@{sha256(content)}", arm_image().id)


def raw(registry: Registry, repository: str, tag: str) -> bytes:
    """Return what a registry has under a tag, byte for byte."""
    with registry.session() as session:
        answer = session.get(
            f"{registry.url}/v2/{repository}/manifests/{tag}",
            headers={"Accept": f"{OCI_INDEX}, application/vnd.oci.image.manifest.v1+json"},
            timeout=60,
        )
    answer.raise_for_status()
    return answer.content


def pull_both(docker: DockerClient, name: str) -> None:
    """Pull the foreign platform, and then this host's, which the tag shows."""
    docker("pull", "--quiet", "--platform", "linux/arm64", name)
    docker("pull", "--quiet", "--platform", "linux/amd64", name)


def test_the_digest_of_an_index_is_the_images(docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, content = index
    docker("pull", "--quiet", name)
    repository = name.removesuffix(":1")
    shown = json.loads(docker("image", "inspect", name).stdout)[0]
    assert shown["Id"] == busybox_image().id
    assert f"{repository}@{sha256(content)}" in shown["RepoDigests"]  # beside those of other tests
    assert shown["Descriptor"] == {"mediaType": OCI_INDEX, "digest": sha256(content), "size": len(content)}
    assert docker("run", "--rm", "--network", "none", f"{repository}@{sha256(content)}", "echo", "hi").line == "hi"


def test_tree_shows_which_platforms_are_here(docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, _ = index
    docker("pull", "--quiet", name)
    lines = docker("image", "ls", "--tree", name).lines
    arm = next(line for line in lines if "linux/arm64" in line)
    assert any("linux/amd64" in line for line in lines)
    assert arm.split()[-2:] == ["0B", "0B"]
    pull_both(docker, name)
    arm = next(line for line in docker("image", "ls", "--tree", name).lines if "linux/arm64" in line)
    assert "0B" not in arm.split()


def test_index_that_is_all_here_is_pushed_byte_for_byte(
    docker: DockerClient, index: tuple[str, bytes], registry: Registry, unique: Unique, tmp_path: Path
) -> None:
    name, content = index
    pull_both(docker, name)
    repository = unique("copy")
    copy = f"{registry.address}/{repository}:1"
    docker("tag", name, copy)
    pushed = docker("push", copy)
    assert pushed.lines[-1] == f"1: digest: {sha256(content)} size: {len(content)}"
    assert raw(registry, repository, "1") == content
    skopeo("copy", "--quiet", "--all", "--src-tls-verify=false", f"docker://{copy}", f"dir:{tmp_path}/copy")
    docker("rmi", copy)


def test_of_an_index_that_is_here_in_part_one_manifest_is_pushed_and_the_user_told(
    docker: DockerClient, index: tuple[str, bytes], registry: Registry, unique: Unique
) -> None:
    name, content = index
    docker("pull", "--quiet", name)
    repository = unique("copy")
    copy = f"{registry.address}/{repository}:1"
    docker("tag", name, copy)
    manifest = replace(busybox_image(), oci=True).manifest()
    pushed = docker("push", copy)
    assert f"1: digest: {sha256(manifest)} size: {len(manifest)}" in pushed.lines
    assert "Not all multiplatform-content is present and only the available single-platform image" in pushed.stdout
    assert sha256(content) in pushed.stdout
    assert raw(registry, repository, "1") == manifest
    docker("rmi", copy)


def test_sampan_pushes_and_saves_indexes_like_docker(
    engine: Engine, docker: DockerClient, index: tuple[str, bytes], registry: Registry, unique: Unique, tmp_path: Path
) -> None:
    name, content = index
    engine.sampan("pull", "--quiet", name)
    repository = unique("copy")
    copy = f"{registry.address}/{repository}:1"
    engine.sampan("tag", name, copy)
    said = engine.sampan("push", copy).lines
    assert (
        said[-2] == "Not all multiplatform-content is present and only the available single-platform image was pushed"
    )
    assert said[-1] == f"{sha256(content)} -> {sha256(replace(busybox_image(), oci=True).manifest())}"
    engine.sampan("pull", "--quiet", "--platform", "linux/arm64", name)
    assert engine.sampan("push", copy).lines[-1] == f"1: digest: {sha256(content)} size: {len(content)}"
    assert raw(registry, repository, "1") == content
    engine.sampan("push", "--platform", "linux/arm64", copy)
    assert raw(registry, repository, "1") == arm_image().manifest()
    engine.sampan("save", "--platform", "linux/arm64", "--output", str(tmp_path / "arm.tar"), name)
    engine.sampan("rmi", copy)
    assert engine.sampan("load", "--input", str(tmp_path / "arm.tar")).line == f"Loaded image: {name}"
    assert (
        engine.sampan_fails("save", "--platform", "linux/s390x", "--output", str(tmp_path / "no.tar"), name).code == 1
    )
    assert not (tmp_path / "no.tar").exists()


def test_platform_chooses_what_is_pushed(
    docker: DockerClient, index: tuple[str, bytes], registry: Registry, unique: Unique
) -> None:
    name, _ = index
    pull_both(docker, name)
    repository = unique("copy")
    copy = f"{registry.address}/{repository}:1"
    docker("tag", name, copy)
    docker("push", "--platform", "linux/arm64", copy)
    assert raw(registry, repository, "1") == arm_image().manifest()
    refused = docker.fails("push", "--platform", "linux/s390x", copy)
    assert refused.code == 1
    assert f"image with reference {copy} was found but does not provide the specified platform" in refused.stderr
    docker("rmi", copy)


def test_archive_holds_the_whole_index_and_gives_it_back(
    docker: DockerClient, index: tuple[str, bytes], registry: Registry, unique: Unique, tmp_path: Path
) -> None:
    name, content = index
    pull_both(docker, name)
    file = tmp_path / "multi.tar"
    docker("save", "--output", str(file), name)
    docker("rmi", name)
    docker("rmi", "--force", arm_image().id)
    assert docker("load", "--input", str(file)).line == f"Loaded image: {name}"
    repository = unique("copy")
    copy = f"{registry.address}/{repository}:1"
    docker("tag", name, copy)
    docker("push", "--quiet", copy)
    assert raw(registry, repository, "1") == content
    shown = json.loads(skopeo("inspect", "--raw", f"oci-archive:{file}"))
    assert shown["annotations"] == {"z": "1", "a": "2"}
    skopeo("copy", "--quiet", f"docker-archive:{file}", f"dir:{tmp_path}/copy")
    docker("rmi", copy)


def test_archive_of_one_platform_has_no_index(docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, _ = index
    pull_both(docker, name)
    saved = output_of(docker, "save", "--platform", "linux/arm64", name)
    listed = subprocess.run(["tar", "-xO", "index.json"], input=saved, capture_output=True, check=True)
    (entry,) = json.loads(listed.stdout)["manifests"]
    assert entry["digest"] == sha256(arm_image().manifest())
    refused = docker.fails("save", "--platform", "linux/s390x", name)
    assert refused.code == 1
    assert "no suitable export target found for platform linux/s390x" in refused.stderr


def test_archive_of_several_platforms_has_the_index_and_is_loaded_in_part(
    engine: Engine, docker: DockerClient, index: tuple[str, bytes], tmp_path: Path
) -> None:
    name, content = index
    pull_both(docker, name)
    file = str(tmp_path / "both.tar")
    engine.sampan("save", "--platform", "linux/arm64,linux/amd64", "--output", file, name)
    for platforms, here in (("linux/arm64,linux/amd64", [True, True]), ("linux/arm64", [False, True])):
        docker("rmi", "--platform", "linux/arm64,linux/amd64", name)
        docker.fails("rmi", "--force", arm_image().id)
        assert engine.sampan("load", "--platform", platforms, "--input", file).line == f"Loaded image: {name}"
        lines = docker("image", "ls", "--tree", name).lines
        shown = [next(line for line in lines if platform in line) for platform in ("linux/amd64", "linux/arm64")]
        assert ["0B" not in line.split() for line in shown] == here
        inspected = json.loads(docker("image", "inspect", "--platform", "linux/arm64", name).stdout)[0]
        assert (inspected["Id"], inspected["Architecture"]) == (arm_image().id, "arm64")
        assert name in inspected["RepoTags"]  # other tests may have given it further ones
        assert arm_image().id[7:19] in docker("history", "--platform", "linux/arm64", name).stdout
    shown = json.loads(docker("image", "inspect", name).stdout)[0]
    assert (shown["Id"], shown["Descriptor"]["digest"]) == (arm_image().id, sha256(content))


def test_several_platforms_are_removed_all_or_none(docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, _ = index
    pull_both(docker, name)
    refused = docker.fails("rmi", "--platform", "linux/arm64,linux/s390x", name)
    assert "does not provide the specified platform (linux/s390x)" in refused.stderr
    assert arm_image().id[7:19] in docker("history", "--platform", "linux/arm64", name).stdout
    docker("rmi", "--platform", "linux/arm64,linux/amd64", name)
    assert docker.fails("image", "inspect", name).code == 1


def test_image_for_another_platform_is_pulled_if_it_is_all_there_is(
    docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    repository = unique("arm")
    push(registry, repository, "1", arm_image())
    name = f"{registry.address}/{repository}:1"
    refused = docker.fails("pull", "--platform", "linux/amd64", name)
    assert (refused.code, "does not match the specified platform: wanted linux/amd64" in refused.stderr) == (1, True)
    docker("pull", "--quiet", name)
    made = docker("create", "--network", "none", name, "/arm")
    assert "WARNING: The requested image's platform (linux/arm64/v8) does not match the detected host platform" in (
        made.stderr
    )
    docker("rm", made.line)
    docker("rmi", name)


def test_config_is_shown_as_each_version_of_the_api_has_it(docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, _ = index
    docker("pull", "--quiet", name)
    shown = json.loads(docker("image", "inspect", name).stdout)[0]["Config"]
    assert {"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"} <= shown.keys()
    assert not {"Hostname", "AttachStdin", "Tty", "Image"} & shown.keys()
    old = DockerClient(docker.host, docker.config, {"DOCKER_API_VERSION": "1.49"})
    assert {"Hostname", "AttachStdin", "Tty", "Image"} <= json.loads(old("image", "inspect", name).stdout)[0][
        "Config"
    ].keys()


def test_each_platform_of_an_index_is_inspected(engine: Engine, docker: DockerClient, index: tuple[str, bytes]) -> None:
    name, _ = index
    pull_both(docker, name)
    for platform, identity in (("linux/arm64", arm_image().id), ("linux/amd64", busybox_image().id)):
        shown = json.loads(docker("image", "inspect", "--platform", platform, name).stdout)[0]
        assert shown["Id"] == identity
        assert identity[7:19] in docker("history", "--platform", platform, name).stdout
        assert json.loads(engine.sampan("image", "inspect", "--platform", platform, name).stdout)[0]["Id"] == identity
        assert identity[7:19] in engine.sampan("history", "--platform", platform, name).stdout
    for ours in (("image", "inspect"), ("history",)):
        refused = engine.sampan_fails(*ours, "--platform", "linux/s390x", name)
        assert (refused.code, "does not provide the specified platform (linux/s390x)" in refused.stderr) == (1, True)
    missing = docker.fails("image", "inspect", "--platform", "linux/s390x", name)
    assert "does not provide the specified platform (linux/s390x)" in missing.stderr


def test_one_platform_is_removed_and_the_other_stays(
    engine: Engine, docker: DockerClient, index: tuple[str, bytes]
) -> None:
    name, content = index
    pull_both(docker, name)
    missing = docker.fails("rmi", "--platform", "linux/s390x", name)
    assert "does not provide the specified platform (linux/s390x)" in missing.stderr
    arm = arm_image()
    blobs = engine.layout.data("imaged") / "blobs/sha256"
    held = {arm.id, sha256(arm.manifest()), sha256(arm.layers[0].blob)}
    assert all((blobs / digest.removeprefix("sha256:")).exists() for digest in held)
    removed = docker("rmi", "--platform", "linux/arm64", name).lines
    assert removed == [f"Deleted: {arm.id}", f"Deleted: {arm.layers[0].diff_id}"]
    assert not any((blobs / digest.removeprefix("sha256:")).exists() for digest in held)
    assert json.loads(docker("image", "inspect", name).stdout)[0]["Architecture"] == "amd64"
    assert (blobs / sha256(content).removeprefix("sha256:")).exists()
    engine.sampan("pull", "--quiet", "--platform", "linux/arm64", name)
    engine.sampan("rmi", "--platform", "linux/amd64", name)
    assert json.loads(docker("image", "inspect", name).stdout)[0]["Architecture"] == "arm64"


@pytest.mark.skipif(bool(TARGET), reason="that needs a store that keeps an index")
def test_a_container_is_made_of_what_an_index_has_for_a_platform(
    docker: DockerClient, index: tuple[str, bytes], unique: Unique, tmp_path: Path
) -> None:
    name, _ = index
    pull_both(docker, name)
    docker("save", "--output", str(tmp_path / "multi.tar"), name)
    docker("rmi", "--force", name, arm_image().id)
    docker("load", "--input", str(tmp_path / "multi.tar"))
    container, committed = unique("arm"), unique("committed")
    docker("create", "--name", container, "--pull", "never", "--platform", "linux/arm64", name, "/arm")
    assert docker("inspect", "--format", "{{.Image}}", container).line == arm_image().id
    refused = docker.fails("rmi", name)
    assert refused.code == 1
    assert "is using its referenced image" in refused.stderr
    docker("commit", container, committed)
    assert docker("image", "inspect", "--format", "{{.Architecture}}", committed).line == "arm64"
    docker("rm", container)
    docker("rmi", committed, name)
