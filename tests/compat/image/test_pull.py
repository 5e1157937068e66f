"""Pulling: by tag and digest, every media type, platforms, credentials, and what goes wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.images import Entry, Image, directory, hardlink, layer, push, push_index, sha256, symlink, tar
from tests.support.registry import Registry, run_registry
from tests.support.tools import free_port
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar
from tests.support.web_registry import WebRegistry, run_web_registry

Unique = Callable[[str], str]


def small(
    mark: str, compression: str = "gzip", *, oci: bool = False, architecture: str = "amd64", variant: str = ""
) -> Image:
    """Return an image that runs, and whose last layer nobody has yet."""
    layers = [layer(busybox_tar(), compression), layer(tar(Entry("mark", mark.encode())), compression)]
    return Image(layers, BUSYBOX_CONFIG, oci=oci, architecture=architecture, variant=variant)


@pytest.fixture
def web_registry() -> Iterator[WebRegistry]:
    with run_web_registry() as running:
        yield running


@pytest.mark.parametrize(
    ("compression", "oci"), [("gzip", False), ("none", False), ("gzip", True), ("zstd", True), ("none", True)]
)
def test_image_of_each_media_type_runs(
    docker: DockerClient, registry: Registry, unique: Unique, compression: str, oci: bool
) -> None:
    name = unique("media")
    push(registry, name, "1", small(name, compression, oci=oci))
    assert docker("run", "--rm", f"{registry.address}/{name}:1", "cat", "/mark").stdout == name


def test_pull_says_what_it_has_done(docker: DockerClient, registry: Registry, unique: Unique) -> None:
    name = unique("said")
    digest = push(registry, name, "1", small(name))
    reference = f"{registry.address}/{name}:1"
    first = docker("pull", reference)
    assert "Pull complete" in first.stdout
    assert f"Digest: {digest}" in first.lines
    assert f"Status: Downloaded newer image for {reference}" in first.lines
    assert f"Status: Image is up to date for {reference}" in docker("pull", reference).lines


def test_pull_by_digest_gives_that_image_though_the_tag_has_moved(
    docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    name = unique("digest")
    old = small(f"{name}-old")
    digest = push(registry, name, "1", old)
    push(registry, name, "1", small(f"{name}-new"))
    reference = f"{registry.address}/{name}@{digest}"
    docker("pull", reference)
    assert docker("run", "--rm", reference, "cat", "/mark").stdout == f"{name}-old"
    shown = docker("image", "inspect", "--format", "{{.Id}} {{json .RepoTags}} {{json .RepoDigests}}", reference).line
    assert shown == f'{old.id} [] ["{reference}"]'


def test_moved_tag_is_pulled_again(docker: DockerClient, registry: Registry, unique: Unique) -> None:
    name = unique("moved")
    reference = f"{registry.address}/{name}:1"
    for mark in ("old", "new"):
        push(registry, name, "1", small(mark + name))
        docker("pull", reference)
        assert docker("run", "--rm", reference, "cat", "/mark").stdout == mark + name


@pytest.mark.parametrize("oci", [False, True])
def test_platform_is_chosen_from_a_list(docker: DockerClient, registry: Registry, unique: Unique, oci: bool) -> None:
    name = unique("list")
    images = [small(f"{name}-{arch}", oci=oci, architecture=arch) for arch in ("s390x", "amd64", "arm64")]
    push_index(registry, name, "1", images, oci=oci)
    reference = f"{registry.address}/{name}:1"
    docker("pull", reference)
    assert docker("run", "--rm", reference, "cat", "/mark").stdout == f"{name}-amd64"
    docker("pull", "--platform", "linux/arm64", reference)
    assert docker("image", "inspect", "--format", "{{.Architecture}}", reference).line == "arm64"


# dockerd 20.10 takes the first that runs, wherever a better one stands.
VARIANTS = [("arm", "v6"), ("arm", "v5"), ("amd64", "v3"), ("amd64", "")]


@pytest.mark.parametrize(
    ("asked", "served"),
    [("linux/arm/v7", "arm-v6"), ("linux/arm", "arm-v6"), ("linux/arm/v5", "arm-v5"), ("linux/amd64", "amd64-")],
)
def test_platform_is_served_by_the_variant_that_runs_best_on_it(
    docker: DockerClient, registry: Registry, unique: Unique, asked: str, served: str
) -> None:
    name = unique("variants")
    images = [small(f"{name}-{arch}-{variant}", architecture=arch, variant=variant) for arch, variant in VARIANTS]
    push_index(registry, name, "1", images)
    reference = f"{registry.address}/{name}:1"
    docker("pull", "--platform", asked, reference)
    shown = docker("image", "inspect", "--format", "{{.Architecture}}-{{.Variant}}", reference)
    assert shown.line == served


def test_image_for_a_newer_machine_is_not_taken_for_this_one(
    docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    name = unique("newer")
    push_index(registry, name, "1", [small(name, architecture="amd64", variant="v4")])
    failed = docker.fails("pull", f"{registry.address}/{name}:1")
    assert (failed.code, "no matching manifest for linux/amd64" in failed.stderr) == (1, True), failed.stderr


@pytest.mark.parametrize("command", [("pull",), ("import", "-")])
def test_platform_that_is_none_is_a_bad_request(
    docker: DockerClient, registry: Registry, unique: Unique, command: tuple[str, ...]
) -> None:
    failed = docker.fails(*command, "--platform", "foo", f"{registry.address}/{unique('none')}:1", input="")
    assert failed.code == 1
    assert "unknown operating system or architecture" in failed.stderr


@pytest.mark.parametrize("platform", ["bogus/x", "windows/amd64"])
def test_image_of_another_system_is_not_imported(docker: DockerClient, unique: Unique, platform: str) -> None:
    failed = docker.fails("import", "--platform", platform, "-", unique("other"), input="")
    assert (failed.code, "operating system is not supported" in failed.stderr) == (1, True), failed.stderr


def test_list_without_our_platform_is_refused_by_name(docker: DockerClient, registry: Registry, unique: Unique) -> None:
    name = unique("foreign")
    push_index(registry, name, "1", [small(name, architecture="s390x")])
    failed = docker.fails("pull", f"{registry.address}/{name}:1")
    assert failed.code == 1
    assert "no matching manifest for linux/amd64" in failed.stderr


def test_later_layers_hide_replace_and_remove_what_is_below(
    docker: DockerClient, registry: Registry, unique: Unique
) -> None:
    name = unique("layers")
    lower = tar(
        directory("d"),
        Entry("d/kept", b"kept"),
        Entry("d/replaced", b"old"),
        Entry("d/removed"),
        directory("o"),
        Entry("o/hidden"),
        directory("t"),
        Entry("t/below"),
    )
    upper = tar(
        Entry("d/replaced", b"new"),
        Entry("d/.wh.removed"),
        directory("o"),
        Entry("o/.wh..wh..opq"),
        Entry("o/shown", b"shown"),
        Entry(".wh.t"),
        hardlink("d/linked", "d/replaced"),
        symlink("d/pointed", "kept"),
    )
    image = Image([layer(busybox_tar()), layer(lower), layer(upper, "gzip")], BUSYBOX_CONFIG)
    push(registry, name, "1", image)
    script = "ls /d /o; ls -d /t; cat /d/replaced /d/linked /d/pointed /o/shown"
    shown = docker.fails("run", "--rm", f"{registry.address}/{name}:1", "sh", "-c", script)
    assert shown.stdout == "/d:\nkept\nlinked\npointed\nreplaced\n\n/o:\nshown\nnewnewkeptshown"
    assert "/t: No such file" in shown.stderr


@pytest.mark.slow
def test_debian_keeps_what_makes_its_files_special(docker: DockerClient, debian: str) -> None:
    script = """
        stat -c '%a %u:%g %n' /usr/bin/passwd /tmp /etc/shadow
        [ /usr/bin/perl -ef /usr/bin/perl5* ] && echo linked
        readlink /bin
        find / -xdev | wc -l
        bash --version | head -n 1 | cut -d ' ' -f 1-2
    """
    lines = docker("run", "--rm", "--network=none", debian, "bash", "-c", script).lines
    assert lines[:3] == ["4755 0:0 /usr/bin/passwd", "1777 0:0 /tmp", "640 0:42 /etc/shadow"]
    assert lines[3:5] == ["linked", "usr/bin"]
    assert 5_000 < int(lines[5]) < 9_000
    assert lines[6] == "GNU bash,"


def test_file_capability_survives(docker: DockerClient, debian: str) -> None:
    # perl can call getxattr(2) by number: the image has no program that shows capabilities.
    call = (
        'my ($p, $n, $v) = ("/usr/local/bin/raw", "security.capability", " " x 64); print syscall(191, $p, $n, $v, 64)'
    )
    assert docker("run", "--rm", "--network=none", debian, "perl", "-e", call).line == "20"


def test_login_is_needed_and_taken(docker: DockerClient, tmp_path: Path, unique: Unique, nothing_left: None) -> None:
    name = unique("private")
    with run_registry(tmp_path / "registry", credentials=("alice", "s3cret")) as private:
        push(private, name, "1", small(name))
        reference = f"{private.address}/{name}:1"
        anonymous = docker.fails("pull", reference)
        assert anonymous.code == 1
        assert "no basic auth credentials" in anonymous.stderr or "pull access denied" in anonymous.stderr
        wrong = docker.fails("login", "--username", "alice", "--password-stdin", private.address, input="wrong")
        assert wrong.code == 1
        assert "unauthorized" in wrong.stderr.lower()
        docker("login", "--username", "alice", "--password-stdin", private.address, input="s3cret")
        docker("pull", reference)
        docker("logout", private.address)
        docker("rmi", reference)


def test_bearer_token_is_fetched_with_the_credentials(
    docker: DockerClient, web_registry: WebRegistry, unique: Unique
) -> None:
    web_registry.login = ("bob", "hunter2")
    reference = web_registry.add(unique("token"), "1", small("token"))
    assert docker.fails("pull", reference).code == 1
    docker("login", "--username", "bob", "--password-stdin", web_registry.address, input="hunter2")
    docker("pull", reference)
    docker("logout", web_registry.address)


def test_unknown_tag_is_said_to_be_unknown(docker: DockerClient, registry: Registry, image: str) -> None:
    failed = docker.fails("pull", f"{registry.address}/busybox:nonesuch")
    assert failed.code == 1
    assert f"manifest for {registry.address}/busybox:nonesuch not found: manifest unknown" in failed.stderr


def test_unknown_repository_is_said_to_be_unknown(docker: DockerClient, registry: Registry) -> None:
    failed = docker.fails("pull", f"{registry.address}/none/such")
    assert failed.code == 1
    assert "not found" in failed.stderr


def test_run_of_an_unknown_image_exits_125(docker: DockerClient, registry: Registry) -> None:
    failed = docker.fails("run", "--rm", f"{registry.address}/none/such", "true")
    assert failed.code == 125
    assert f"Unable to find image '{registry.address}/none/such:latest' locally" in failed.stderr


def test_registry_that_is_down_is_named(docker: DockerClient, nothing_left: None) -> None:
    address = f"127.0.0.1:{free_port()}"
    failed = docker.fails("pull", f"{address}/busybox:1")
    assert failed.code == 1
    assert address in failed.stderr
    assert "connection refused" in failed.stderr.lower()


def test_corrupt_blob_is_refused(docker: DockerClient, registry: Registry, unique: Unique, nothing_left: None) -> None:
    name = unique("corrupt")
    image = small(name)
    push(registry, name, "1", image)
    blob = image.layers[1].blob
    assert isinstance(blob, bytes)
    path = registry.blob_file(sha256(image.layers[1].blob))
    path.write_bytes(bytes(byte ^ 0xFF for byte in blob))
    failed = docker.fails("pull", f"{registry.address}/{name}:1")
    assert failed.code == 1
    assert "digest" in failed.stderr or "verif" in failed.stderr
    assert docker.fails("image", "inspect", f"{registry.address}/{name}:1").code == 1


def test_download_that_breaks_off_every_time_fails(
    docker: DockerClient, web_registry: WebRegistry, unique: Unique, nothing_left: None
) -> None:
    image = small(unique("cut"))
    reference = web_registry.add("cut", "1", image)
    web_registry.cut.add(sha256(image.layers[1].blob))
    failed = docker.fails("pull", reference, timeout=120)
    assert failed.code == 1
    assert "EOF" in failed.stderr or "of" in failed.stderr
    assert docker.fails("image", "inspect", reference).code == 1
    web_registry.cut.clear()
    docker("pull", reference)


def test_manifest_of_five_megabytes_is_refused(
    docker: DockerClient, web_registry: WebRegistry, nothing_left: None
) -> None:
    image = small("big")
    reference = web_registry.add("big", "1", image)
    media_type, manifest = web_registry.manifests["big/1"]
    web_registry.manifests["big/1"] = (media_type, manifest[:-1] + b" " * (5 << 20) + b"}")
    failed = docker.fails("pull", reference)
    assert failed.code == 1
    assert "manifest" in failed.stderr
