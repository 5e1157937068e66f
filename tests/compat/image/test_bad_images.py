"""Archives, names and removals that cannot be: each refused in a sentence that names the culprit, with nothing left."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, Result, result_of
from tests.support.engine import SAMPAN, Engine
from tests.support.images import Entry, Image, layer, symlink, tar

Unique = Callable[[str], str]

FILES = tar(Entry("hello", b"hello"))
IMAGE = Image([layer(FILES, "none")], {"Cmd": ["/hello"]})
OTHER = Image([layer(FILES, "none")], {"Cmd": ["/other"]})


def docker_archive(tag: str = "bad:1", **changes: bytes | None) -> Mapping[str, bytes]:
    """Return a docker-archive's files; ``changes`` replace some by the first part of their names, None takes away."""
    item = {"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}
    files = {
        "config.json": IMAGE.config_blob(),
        "layer.tar": FILES,
        "manifest.json": json.dumps([item]).encode(),
    }
    for name in list(files):
        if (key := name.partition(".")[0]) in changes:
            content = changes[key]
            files.pop(name)
            if content is not None:
                files[name] = content
    return files


def packed(files: Mapping[str, bytes], *more: Entry) -> bytes:
    """Return the archive of files."""
    return tar(*(Entry(name, content) for name, content in files.items()), *more)


def two_of_one_name() -> bytes:
    """Return an archive that gives two images one name."""
    listed = [{"Config": f"{n}.json", "RepoTags": ["bad:1"], "Layers": ["layer.tar"]} for n in (1, 2)]
    files = {"1.json": IMAGE.config_blob(), "2.json": OTHER.config_blob(), "layer.tar": FILES}
    return packed({**files, "manifest.json": json.dumps(listed).encode()})


BAD = {
    "truncated": (packed(docker_archive())[:3000], "tar archive ends in the middle of a file"),
    "a way out": (packed(docker_archive(), Entry("../evil", b"x")), "archive entry '../evil' leads out of the archive"),
    "a link out": (packed({}, symlink("a/b", "../../etc")), "archive entry 'a/b' leads out of the archive"),
    "no layer": (packed(docker_archive(layer=None)), "manifest.json names 'layer.tar', which is not in the archive"),
    "another layer": (packed(docker_archive(layer=tar(Entry("x", b"y")))), "layer 'layer.tar' has the digest sha256:"),
    "one name twice": (two_of_one_name(), "the archive gives the name bad:1 to two images"),
    "upper case": (packed(docker_archive("Bad:1")), "repository name (Bad) must be lowercase"),
    "a digest": (packed(docker_archive("bad@sha256:" + "0" * 64)), "holds a digest where a tag belongs"),
    "long": (packed(docker_archive("b" * 300 + ":1")), "repository name must not be more than 255 characters"),
    "no tar": (b"hello\n" * 1000, "not an archive of images: tar archive has a header whose checksum is wrong"),
    "a file system": (tar(Entry("etc/passwd", b"root")), "not an archive of images: it holds neither manifest.json"),
    "nothing": (b"", "not an archive of images"),
}


def fed(command: list[str], archive: bytes, env: Mapping[str, str]) -> Result:
    """Run a program with an archive on stdin."""
    return result_of(subprocess.run(command, input=archive, capture_output=True, timeout=60, env=env))


@pytest.mark.parametrize("case", BAD)
def test_bad_archive_is_refused_by_name_and_leaves_nothing(
    docker: DockerClient, image: str, request: pytest.FixtureRequest, nothing_left: None, case: str
) -> None:
    archive, complaint = BAD[case]
    before = docker("images", "--all", "--quiet", "--no-trunc").lines
    failed = fed(["docker", "load"], archive, docker.env())
    assert (failed.code, complaint in failed.stderr) == (1, True), failed.stderr
    if not TARGET:
        engine: Engine = request.getfixturevalue("engine")
        ours = fed([str(SAMPAN), "load"], archive, engine.env())
        assert (ours.code, complaint in ours.stderr) == (1, True), ours.stderr
    assert docker("images", "--all", "--quiet", "--no-trunc").lines == before


@pytest.mark.parametrize("command", [("load",), ("import", "-", "bad:1")])
def test_zeros_without_an_end_are_refused_early(docker: DockerClient, nothing_left: None, command: tuple[str]) -> None:
    zeros = subprocess.Popen(["head", "-c", "10G", "/dev/zero"], stdout=subprocess.PIPE)
    assert zeros.stdout is not None
    done = subprocess.run(["docker", *command], stdin=zeros.stdout, capture_output=True, timeout=60, env=docker.env())
    # Nobody reads the rest: what feeds it dies of that, with most of it unsent.
    zeros.stdout.close()
    assert zeros.wait(60) != 0
    assert done.returncode == 1
    assert b"not a" in done.stderr


def test_layout_of_nested_indexes_and_the_one_before_docker_1_10_are_loaded(
    docker: DockerClient, unique: Unique
) -> None:
    nested, old = unique("nested"), unique("old")
    documents = [IMAGE.config_blob(), FILES, IMAGE.manifest()]
    inner = json.dumps(_index(_entry(IMAGE.media_type, documents[-1]))).encode()
    outer = json.dumps(_index(_entry(_INDEX, inner))).encode()
    root = _entry(_INDEX, outer) | {"annotations": {"io.containerd.image.name": f"docker.io/library/{nested}:1"}}
    files = {f"blobs/sha256/{_hex(content)}": content for content in (*documents, inner, outer)}
    files |= {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(_index(root)).encode()}
    loaded = fed(["docker", "load"], packed(files), docker.env())
    assert loaded.stdout == f"Loaded image: {nested}:1\n", loaded.stderr
    assert docker("image", "inspect", "--format", "{{.Id}}", nested + ":1").line == IMAGE.id

    identity = "a" * 64
    described = {"id": identity, "created": "2014-01-01T00:00:00Z", "os": "linux", "architecture": "amd64"}
    files = {
        "repositories": json.dumps({old: {"1": identity}}).encode(),
        f"{identity}/VERSION": b"1.0",
        f"{identity}/json": json.dumps({**described, "config": {"Cmd": ["/hello"]}}).encode(),
        f"{identity}/layer.tar": FILES,
    }
    loaded = fed(["docker", "load"], packed(files), docker.env())
    assert loaded.stdout == f"Loaded image: {old}:1\n", loaded.stderr
    docker("rmi", f"{nested}:1", f"{old}:1")


_INDEX = "application/vnd.oci.image.index.v1+json"


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _entry(media_type: str, content: bytes) -> dict[str, Any]:
    platform = {"os": "linux", "architecture": "amd64"}
    digest = f"sha256:{_hex(content)}"
    return {"mediaType": media_type, "digest": digest, "size": len(content), "platform": platform}


def _index(entry: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}


def new_image(docker: DockerClient, name: str) -> str:
    """Make an image that no other test has; return the start of its ID."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        archive.addfile(info)
    made = fed(["docker", "import", "-", name], buffer.getvalue(), docker.env())
    assert made.code == 0, made.stderr
    return made.line.removeprefix("sha256:")[:12]


def conflict(docker: DockerClient, *arguments: str) -> str:
    """Return what a removal is refused with."""
    failed = docker.fails("rmi", *arguments)
    assert failed.code == 1
    return failed.stderr.strip().removeprefix("Error response from daemon: ")


def test_image_of_a_container_is_kept_in_dockers_words(
    docker: DockerClient, unique: Unique, container_name: Callable[[], str]
) -> None:
    name, other = unique("used"), unique("other")
    identity = new_image(docker, name)
    user = docker("create", "--name", container_name(), "--network", "none", name, "/nothing").line[:12]
    assert conflict(docker, name) == (
        f'conflict: unable to remove repository reference "{name}" (must force) - '
        f"container {user} is using its referenced image {identity}"
    )
    used = f"conflict: unable to delete {identity} (must be forced) - "
    assert conflict(docker, identity) == f"{used}image is being used by stopped container {user}"
    docker("tag", name, other)
    # That it has names in several repositories outweighs that.
    assert conflict(docker, identity) == f"{used}image is referenced in multiple repositories"
    # One of several names may always go.
    assert docker("rmi", other).lines == [f"Untagged: {other}:latest"]
    removed = docker("rmi", "--force", identity).lines
    assert removed[0] == f"Untagged: {name}:latest"
    assert removed[1].startswith(f"Deleted: sha256:{identity}")
    docker("rm", user)


def test_image_of_a_running_container_goes_by_no_force(docker: DockerClient, sleeper: str, image: str) -> None:
    identity = docker("image", "inspect", "--format", "{{.Id}}", image).line.removeprefix("sha256:")[:12]
    running = docker("inspect", "--format", "{{.Id}}", sleeper).line[:12]
    assert conflict(docker, "--force", identity) == (
        f"conflict: unable to delete {identity} (cannot be forced) - image is being used by running container {running}"
    )


def test_parent_of_other_images_stays_until_they_are_gone(
    docker: DockerClient, image: str, spawn: Spawn, unique: Unique
) -> None:
    parent, child = unique("parent"), unique("child")
    docker("wait", spawn(image, "sh", "-c", "echo 1 > /one"))
    identity = new_image_of(docker, spawn, image, parent)
    child_identity = new_image_of(docker, spawn, parent, child)
    assert conflict(docker, identity) == (
        f"conflict: unable to delete {identity} (cannot be forced) - image has dependent child images"
    )
    assert docker("rmi", parent).lines == [f"Untagged: {parent}:latest"]
    removed = docker("rmi", child).lines
    assert removed[0] == f"Untagged: {child}:latest"
    deleted = [line for line in removed if line.startswith("Deleted: ")]
    assert deleted[0].startswith(f"Deleted: sha256:{child_identity}")
    assert any(line.startswith(f"Deleted: sha256:{identity}") for line in deleted)


def new_image_of(docker: DockerClient, spawn: Spawn, base: str, name: str) -> str:
    """Commit a container of ``base`` that has changed something; return the start of the image's ID."""
    changed = spawn(base, "sh", "-c", f"echo {name} > /changed")
    docker("wait", changed)
    made = docker("commit", changed, name).line.removeprefix("sha256:")[:12]
    docker("rm", changed)
    return made


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Upper:1", "repository name (library/Upper) must be lowercase"),
        ("b" * 300, "must not be more than 255 characters"),
        ("ok:" + "t" * 129, "invalid reference format"),
        ("web@sha256:" + "0" * 64, "refusing to create a tag with a digest reference"),
        ("sha256:abc", "refusing to create an ambiguous tag using digest algorithm as name"),
        ("a" * 64, "cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_name_that_is_none_is_no_tag(docker: DockerClient, image: str, name: str, complaint: str) -> None:
    failed = docker.fails("tag", image, name)
    assert (failed.code, complaint in failed.stderr) == (1, True), failed.stderr
