"""``docker cp``: into containers and out of them, whether they run or not."""

import io
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient


@pytest.fixture(params=["running", "stopped"])
def container(
    request: pytest.FixtureRequest, docker: DockerClient, image: str, spawn: Spawn, container_name: Callable[[], str]
) -> str:
    """A container in either state."""
    if request.param == "running":
        return spawn(image, "sleep", "3600")
    docker("create", "--name", (name := container_name()), image, "sleep", "3600")
    return name


def archive_of(docker: DockerClient, source: str, *flags: str) -> list[tarfile.TarInfo]:
    """Return the entries of what ``docker cp`` writes to stdout."""
    done = subprocess.run(
        ["docker", "cp", *flags, source, "-"], capture_output=True, timeout=60, env=docker.env(), check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return archive.getmembers()


def test_a_file_goes_in_and_out(docker: DockerClient, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "file").chmod(0o640)
    docker("cp", f"{tmp_path}/file", f"{container}:/tmp/renamed")
    docker("cp", f"{container}:/tmp/renamed", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "content\n"
    (entry,) = archive_of(docker, f"{container}:/tmp/renamed")
    assert (entry.name, stat.S_IMODE(entry.mode), entry.size) == ("renamed", 0o640, 8)


def test_a_directory_goes_in_and_out(docker: DockerClient, container: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("1")
    (tree / "link").symlink_to("sub/file")
    docker("cp", str(tree), f"{container}:/tmp")
    docker("cp", str(tree), f"{container}:/tmp/new")
    docker("cp", f"{container}:/tmp/.", f"{tmp_path}/all")
    for name in ("tree", "new"):
        assert (tmp_path / "all" / name / "sub/file").read_text() == "1"
        assert (tmp_path / "all" / name / "link").readlink() == Path("sub/file")


def test_links_are_followed_only_when_asked(docker: DockerClient, container: str) -> None:
    (link,) = archive_of(docker, f"{container}:/bin/ls")
    assert (link.issym(), link.linkname) == (True, "busybox")
    (file,) = archive_of(docker, f"{container}:/bin/ls", "--follow-link")
    assert file.isfile()


def test_volumes_are_seen(docker: DockerClient, image: str, container_name: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the volume\n")
    docker("create", "--name", (name := container_name()), "--volume", "/data", image, "cat", "/data/file")
    docker("cp", f"{tmp_path}/file", f"{name}:/data/")
    assert docker("start", "--attach", name).line == "in the volume"
    docker("cp", f"{name}:/data/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "in the volume\n"


def test_hostile_links_stay_inside(docker: DockerClient, image: str, spawn: Spawn, tmp_path: Path) -> None:
    container = spawn(image, "sh", "-c", "ln -s ../../../../../../tmp /out; ln -s /tmp /abs; touch /ready; sleep 3600")
    docker("exec", container, "sh", "-c", "until [ -e /ready ]; do :; done")
    (tmp_path / "file").write_text("x")
    for link in ("out", "abs"):
        docker("cp", f"{tmp_path}/file", f"{container}:/{link}/from-{link}")
    assert docker("exec", container, "ls", "/tmp").lines == ["from-abs", "from-out"]
    assert not Path("/tmp/from-out").exists()


def test_what_is_not_there_is_named(docker: DockerClient, container: str, tmp_path: Path) -> None:
    failed = docker.fails("cp", f"{container}:/nope", str(tmp_path))
    assert (failed.code, f"Could not find the file /nope in container {container}" in failed.stderr) == (1, True)
    (tmp_path / "file").write_text("x")
    failed = docker.fails("cp", f"{tmp_path}/file", f"{container}:/nope/x")
    assert (failed.code, "Could not find the file /nope in container" in failed.stderr) == (1, True)
    failed = docker.fails("cp", f"{tmp_path}/file", "nonesuch:/x")
    assert (failed.code, "No such container: nonesuch" in failed.stderr) == (1, True)


def test_a_directory_does_not_go_where_a_file_is(docker: DockerClient, container: str, tmp_path: Path) -> None:
    (tmp_path / "passwd").mkdir()
    failed = docker.fails("cp", str(tmp_path / "passwd"), f"{container}:/etc")
    assert (failed.code, 'cannot overwrite non-directory "/etc/passwd" with directory' in failed.stderr) == (1, True)


def test_nothing_is_written_to_a_read_only_root(docker: DockerClient, image: str, spawn: Spawn, tmp_path: Path) -> None:
    container = spawn("--read-only", image, "sleep", "3600")
    (tmp_path / "file").write_text("x")
    failed = docker.fails("cp", f"{tmp_path}/file", f"{container}:/")
    assert (failed.code, "container rootfs is marked read-only" in failed.stderr) == (1, True)
