"""``docker images``, ``tag``, ``rmi``, ``history``, ``image inspect`` and ``import``."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.images import Entry, Image, layer, push, sha256, tar
from tests.support.registry import Registry
from tests.support.trees import busybox_image, busybox_tar

Unique = Callable[[str], str]


def test_images_lists_what_was_pulled(docker: DockerClient, image: str) -> None:
    repository, _, tag = image.rpartition(":")
    shown = docker("images", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.ID}}", repository)
    assert shown.lines == [f"{repository} {tag} {busybox_image().id}"]
    assert re.fullmatch(r"[\d.]+MB", docker("images", "--format", "{{.Size}}", image).line)
    assert docker("images", "--quiet", "--filter", f"reference={image}").line == busybox_image().id[7:19]


def test_digests_are_listed(docker: DockerClient, registry: Registry, image: str) -> None:
    digest = push(registry, "busybox", "1", busybox_image())
    repository, _, tag = image.rpartition(":")
    assert f"{tag} {digest}" in docker("images", "--digests", "--format", "{{.Tag}} {{.Digest}}", repository).lines


def test_tag_adds_a_name_and_rmi_takes_it_away(docker: DockerClient, image: str, unique: Unique) -> None:
    tag = f"{unique('tag')}:x"
    docker("tag", image, tag)
    assert docker("run", "--rm", tag, "echo", "same").line == "same"
    assert docker("rmi", tag).lines == [f"Untagged: {tag}"]
    assert docker.fails("image", "inspect", tag).code == 1
    docker("image", "inspect", image)


def test_tag_of_an_unknown_image_says_so(docker: DockerClient) -> None:
    failed = docker.fails("tag", "nonesuch", "other")
    assert (failed.code, "No such image: nonesuch" in failed.stderr) == (1, True)


def test_rmi_of_the_last_name_deletes_the_layers(docker: DockerClient, unique: Unique, nothing_left: None) -> None:
    name = unique("gone")
    docker("import", "-", name, input="\0" * 1024)  # an archive of nothing
    lines = docker("rmi", name).lines
    assert lines[0] == f"Untagged: {name}:latest"
    assert any(line.startswith("Deleted: sha256:") for line in lines)


def two_of_one_base(registry: Registry, repository: str) -> tuple[dict[str, Image], dict[str, list[str]], str]:
    """Push two images with a layer in common; return them and the chains that only they have, and the common one."""
    base = layer(tar(Entry("base", repository.encode())))
    own = {tag: layer(tar(Entry(tag, repository.encode() * 10))) for tag in ("one", "two")}
    images = {tag: Image([base, mine], {"Labels": {"of": repository}}) for tag, mine in own.items()}
    for tag, each in images.items():
        push(registry, repository, tag, each)
    chains = {tag: [sha256(f"{base.diff_id} {mine.diff_id}".encode())] for tag, mine in own.items()}
    return images, chains, base.diff_id


def test_layers_go_with_the_last_image_that_has_them(
    docker: DockerClient, registry: Registry, unique: Unique, nothing_left: None
) -> None:
    images, chains, base = two_of_one_base(registry, unique("layers"))
    repository = f"{registry.address}/{images['one'].config['Labels']['of']}"
    for tag in images:
        docker("pull", "--quiet", f"{repository}:{tag}")
    for tag, image in images.items():
        left = [base] if tag == "two" else []
        assert docker("rmi", f"{repository}:{tag}").lines == [
            f"Untagged: {repository}:{tag}",
            f"Untagged: {repository}@{sha256(image.manifest())}",
            *(f"Deleted: {gone}" for gone in (image.id, *chains[tag], *left)),
        ]


def test_layers_that_a_container_stands_on_stay(
    docker: DockerClient, registry: Registry, unique: Unique, container_name: Callable[[], str], nothing_left: None
) -> None:
    images, _, _ = two_of_one_base(registry, unique("held"))
    name = f"{registry.address}/{images['one'].config['Labels']['of']}:one"
    docker("pull", "--quiet", name)
    container = docker("create", "--network", "none", "--name", container_name(), name, "/x").line
    removed = docker("rmi", "--force", name).lines
    assert [line for line in removed if line.startswith("Deleted")] == [f"Deleted: {images['one'].id}"]
    docker("rm", container)


def test_prune_says_which_layers_went(
    docker: DockerClient, registry: Registry, unique: Unique, nothing_left: None
) -> None:
    images, chains, base = two_of_one_base(registry, unique("pruned"))
    label = images["one"].config["Labels"]["of"]
    repository = f"{registry.address}/{label}"
    for tag in images:
        docker("pull", "--quiet", f"{repository}:{tag}")
    said = docker("image", "prune", "--all", "--force", "--filter", f"label=of={label}").lines
    assert said[0] == "Deleted Images:"
    names = {f"{repository}:{tag}" for tag in images} | {
        f"{repository}@{sha256(i.manifest())}" for i in images.values()
    }
    assert {line.removeprefix("untagged: ") for line in said if line.startswith("untagged: ")} == names
    deleted = [line.removeprefix("deleted: ") for line in said if line.startswith("deleted: ")]
    assert deleted[-1] == base
    assert set(deleted) == {image.id for image in images.values()} | {
        each for own in chains.values() for each in own
    } | {base}
    assert len(deleted) == 5


def test_image_in_use_is_removed_only_by_force(
    docker: DockerClient, image: str, unique: Unique, container_name: Callable[[], str], tmp_path: Path
) -> None:
    name, tar = unique("used"), tmp_path / "root.tar"
    tar.write_bytes(busybox_tar())
    docker("import", str(tar), name)
    docker("create", "--name", (container := container_name()), name, "sh")
    failed = docker.fails("rmi", name)
    assert failed.code == 1
    assert "conflict: unable to remove repository reference" in failed.stderr
    docker("rm", container)
    docker("rmi", name)


def test_what_forbids_a_removal_is_told_in_docker_s_words_and_order(
    docker: DockerClient, unique: Unique, container_name: Callable[[], str], tmp_path: Path
) -> None:
    name, tar = unique("forbidden"), tmp_path / "root.tar"
    tar.write_bytes(busybox_tar())
    image = docker("import", "--change", 'CMD ["sleep", "1000"]', str(tar), f"{name}:1").line
    short = image.removeprefix("sha256:")[:12]
    stopped = docker("create", "--stop-timeout", "0", "--name", (container := container_name()), f"{name}:1").line[:12]

    def refused(*arguments: str) -> str:
        failed = docker.fails("rmi", *arguments)
        assert failed.code == 1
        return failed.stderr.strip().partition("conflict: ")[2]

    last = f'unable to remove repository reference "{name}:1" (must force) - container {stopped} is using its '
    by_stopped = f"unable to delete {short} (must be forced) - image is being used by stopped container {stopped}"
    by_running = f"unable to delete {short} (cannot be forced) - image is being used by running container {stopped}"
    several = f"unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    assert refused(f"{name}:1") == f"{last}referenced image {short}"
    assert refused(image) == by_stopped
    docker("tag", image, f"{name}:2")
    assert refused(image) == several
    docker("start", container)
    assert refused(image) == by_running
    assert refused("--force", image) == by_running
    assert docker("rmi", f"{name}:2").lines == [f"Untagged: {name}:2"]
    assert refused(image) == by_running
    assert docker("rmi", "--force", f"{name}:1").lines == [f"Untagged: {name}:1"]  # it runs on, without a name
    docker("stop", container)
    assert refused(image) == by_stopped
    docker("rm", container)
    assert docker("rmi", image).lines[0] == f"Deleted: {image}"


def test_rmi_of_an_unknown_image_says_so(docker: DockerClient) -> None:
    failed = docker.fails("rmi", "nonesuch")
    assert (failed.code, "No such image: nonesuch" in failed.stderr) == (1, True)


def test_history_shows_one_line_per_step(docker: DockerClient, image: str) -> None:
    shown = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.ID}}", image)
    assert shown.lines == [f"layer 0|{busybox_image().id}"]


def test_image_inspect_has_docker_s_shape(docker: DockerClient, image: str) -> None:
    shown = json.loads(docker("image", "inspect", image).stdout)[0]
    assert shown["Id"] == busybox_image().id
    assert image in shown["RepoTags"]
    assert (shown["Architecture"], shown["Os"]) == ("amd64", "linux")
    assert shown["Created"] == "2024-01-02T03:04:05.678901234Z"
    assert shown["Config"]["Cmd"] == ["sh"]
    assert shown["RootFS"] == {"Type": "layers", "Layers": [busybox_image().layers[0].diff_id]}
    assert shown["Size"] > 500_000


def test_import_makes_an_image_of_a_tar(docker: DockerClient, unique: Unique, tmp_path: Path) -> None:
    name, tar = unique("imported"), tmp_path / "root.tar"
    tar.write_bytes(busybox_tar())
    changes = {
        'CMD ["echo", "from cmd"]': ("Cmd", ["echo", "from cmd"]),
        "ENV A=1 B=2": ("Env", ["A=1", "B=2"]),
        "WORKDIR /var/www": ("WorkingDir", "/var/www"),
        "USER daemon": ("User", "daemon"),
        "EXPOSE 80 53/udp": ("ExposedPorts", {"80/tcp": {}, "53/udp": {}}),
        "LABEL a=b": ("Labels", {"a": "b"}),
        "VOLUME /data": ("Volumes", {"/data": {}}),
    }
    flags = [flag for change in changes for flag in ("--change", change)]
    identity = docker("import", *flags, "--message", "said", str(tar), f"{name}:1").line
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", identity)
    shown = json.loads(docker("image", "inspect", f"{name}:1").stdout)[0]
    assert shown["Id"] == identity
    assert shown["Comment"] == "said"
    for key, value in changes.values():
        if key == "Env":
            assert set(value) <= set(shown["Config"]["Env"])
        else:
            assert shown["Config"][key] == value
    assert docker("run", "--rm", f"{name}:1").line == "from cmd"
    assert docker("run", "--rm", f"{name}:1", "sh", "-c", "pwd; id -u").lines == ["/var/www", "1"]


def test_import_of_what_is_no_tar_is_refused(docker: DockerClient, unique: Unique, nothing_left: None) -> None:
    name = unique("nonsense")
    failed = docker.fails("import", "-", name, input="this is not a tar archive" * 100)
    assert failed.code == 1
    assert docker.fails("image", "inspect", name).code == 1


@pytest.mark.parametrize("change", ["FROM busybox", "RUN true", "NONSENSE x"])
def test_import_refuses_a_change_that_is_none(docker: DockerClient, unique: Unique, change: str) -> None:
    failed = docker.fails("import", "--change", change, "-", unique("bad"), input="")
    assert failed.code == 1
    assert change.split()[0].lower() in failed.stderr.lower()


@pytest.mark.parametrize("name", ["UPPER", "a//b", "a:b:c", "x" * 300])
def test_name_that_is_none_is_refused(docker: DockerClient, image: str, name: str) -> None:
    failed = docker.fails("tag", image, name)
    assert failed.code == 1
    assert "invalid reference format" in failed.stderr or "not a valid" in failed.stderr or "must be" in failed.stderr


def test_image_prune_removes_what_has_no_name(docker: DockerClient, unique: Unique, tmp_path: Path) -> None:
    name, tar = unique("dangling"), tmp_path / "root.tar"
    tar.write_bytes(busybox_tar())
    first = docker("import", str(tar), name).line
    docker("import", "--message", "another", str(tar), name)
    assert first[7:19] in docker("images", "--quiet", "--filter", "dangling=true").lines
    docker("image", "prune", "--force")
    assert docker.fails("image", "inspect", first).code == 1
    docker("rmi", name)
