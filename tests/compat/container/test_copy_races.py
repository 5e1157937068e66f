"""``docker cp`` and a container that does its best to have it work on the host's files.

The container sees the processes of the host, and a link of /proc leads from each of them to the host's root.
"""

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker as sdk_package
import pytest
from docker.errors import APIError

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine

pytestmark = pytest.mark.root
ours = pytest.mark.skipif(TARGET is not None, reason="Docker's engine differs here")

ROUNDS = 100  # of each kind, for each way to see the host

# Ways to have a file put into the place, as the directory to unpack in and the name of the entry.
WAYS: tuple[Callable[[int], tuple[str, str]], ...] = (
    lambda n: ("/swap/place", f"a{n}"),
    lambda n: ("/swap", f"place/b{n}"),
    lambda n: ("/", f"swap/place/c{n}"),
)

# Exchanges two names of a container's as fast as one process can, until its stdin ends. Run in the container's root.
SWAPPER = """
import os, select, sys
from sampan.sys.files import exchange
root, first, second = sys.argv[1:]
os.chroot(root)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(50):
        exchange(first, second)
"""


@contextlib.contextmanager
def swapping(root: Path, first: str, second: str) -> Iterator[None]:
    command = [sys.executable, "-c", SWAPPER, str(root), first, second]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            assert process.poll() is None
            process.stdin.close()
            process.wait(60)


def tar_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def files_in(pieces: Iterator[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


class Trap:
    """A container in which ``place`` is a directory at one moment and a link to the host's at the next."""

    def __init__(self, docker: DockerClient, sdk: sdk_package.DockerClient, container: str, place: str) -> None:
        self.container = sdk.containers.get(container)
        self.place = place
        pid = docker("inspect", "--format", "{{.State.Pid}}", container).line
        self.root = Path(f"/proc/{pid}/root")

    def read(self, path: str) -> dict[str, bytes]:
        """Return the files that an archive of ``path`` holds, none if there is no such path."""
        try:
            pieces, _ = self.container.get_archive(path)
            return files_in(pieces)
        except (APIError, tarfile.TarError):
            return {}

    def write(self, path: str, name: str) -> bool:
        try:
            return bool(self.container.put_archive(path, tar_of(name, b"from the client")))
        except APIError:
            return False


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's that no container has."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_bytes(b"the host's")
    return tmp_path / "host"


@pytest.fixture(params=["host pids", pytest.param("host proc", marks=ours)])
def trap(
    request: pytest.FixtureRequest,
    docker: DockerClient,
    sdk: sdk_package.DockerClient,
    image: str,
    spawn: Spawn,
    host: Path,
) -> Trap:
    if request.param == "host pids":
        proc, flags = "/proc", ["--pid", "host"]
    else:
        proc, flags = "/mnt/proc", ["--volume", "/proc:/mnt/proc"]
    script = (
        "mkdir -p /swap/place/sub && echo -n inside >/swap/place/file && echo -n inside >/swap/place/sub/file"
        f" && ln -s {proc}/{os.getpid()}/root{host} /swap/link && touch /ready && exec sleep 3600"
    )
    name = spawn(*flags, image, "sh", "-c", script)
    docker("exec", name, "sh", "-c", "until [ -e /ready ]; do sleep 0.05; done")
    return Trap(docker, sdk, name, "/swap/place")


def several(job: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(job, range(ROUNDS)))


def test_no_read_gets_the_hosts_file_while_a_directory_turns_into_a_magic_link(trap: Trap) -> None:
    with swapping(trap.root, "/swap/place", "/swap/link"):
        found = several(lambda n: trap.read(f"/swap/place{('/file', '/.', '', '/')[n % 4]}"))
    contents = [content for files in found if isinstance(files, dict) for content in files.values()]
    assert set(contents) <= {b"inside"}
    assert trap.read("/swap")  # nothing has broken


def test_no_write_reaches_the_host_while_a_directory_turns_into_a_magic_link(trap: Trap, host: Path) -> None:
    with swapping(trap.root, "/swap/place", "/swap/link"):
        several(lambda n: trap.write(*WAYS[n % 3](n)))
    assert [path.name for path in host.iterdir()] == ["file"]
    assert (host / "file").read_bytes() == b"the host's"
    assert trap.write("/swap", "after")


def test_a_magic_link_leads_nowhere(trap: Trap, host: Path) -> None:
    assert trap.read("/swap/link/file") == {}
    assert trap.read("/swap/link/") == {}
    assert not trap.write("/swap/link", "new")
    assert [path.name for path in host.iterdir()] == ["file"]


def test_kernel_file_systems_are_empty_directories(docker: DockerClient, image: str, spawn: Spawn) -> None:
    container = spawn(image, "sleep", "3600")
    done = subprocess.run(["docker", "cp", f"{container}:/", "-"], capture_output=True, timeout=60, env=docker.env())
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        names = {name.strip("/") for name in archive.getnames()}
    assert {"proc", "sys", "dev", "bin/busybox"} <= names
    assert not {name for name in names if name.startswith(("proc/", "sys/", "dev/null"))}
    failed = docker.fails("cp", f"{container}:/proc/version", "-")
    assert "Could not find the file /proc/version in container" in failed.stderr


def test_engines_own_files_in_etc_are_copied(docker: DockerClient, image: str, spawn: Spawn, tmp_path: Path) -> None:
    container = spawn("--hostname", "known", image, "sleep", "3600")
    for stop in (False, True):
        if stop:
            docker("stop", "--time", "0", container)
        docker("cp", f"{container}:/etc/hostname", f"{tmp_path}/name-{stop}")
        assert (tmp_path / f"name-{stop}").read_text() == "known\n"


@ours
def test_tmpfs_of_a_running_container_is_copied_both_ways(
    docker: DockerClient, image: str, spawn: Spawn, tmp_path: Path
) -> None:
    container = spawn("--tmpfs", "/fast", image, "sleep", "3600")
    (tmp_path / "file").write_text("1")
    docker("cp", f"{tmp_path}/file", f"{container}:/fast/")
    assert docker("exec", container, "cat", "/fast/file").line == "1"
    docker("cp", f"{container}:/fast/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "1"


@ours
def test_bind_whose_source_the_container_has_replaced_is_still_the_one_it_has(
    docker: DockerClient, image: str, spawn: Spawn, tmp_path: Path, host: Path
) -> None:
    (tmp_path / "shared/sub").mkdir(parents=True)
    (tmp_path / "shared/sub/file").write_text("shared")
    shared = tmp_path / "shared"
    container = spawn("--volume", f"{shared}:/shared", "--volume", f"{shared}/sub:/sub", image, "sleep", "3600")
    docker("exec", container, "sh", "-c", f"mv /shared/sub /shared/other && ln -s {host} /shared/sub")
    docker("cp", f"{container}:/sub/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "shared"


@ours
def test_bind_from_the_engines_own_directory_is_not_looked_for_in_the_container(
    docker: DockerClient, engine: Engine, image: str, spawn: Spawn, tmp_path: Path, host: Path
) -> None:
    source = engine.layout.run_root / "runtimed/probe"
    source.write_text("shared")
    try:
        script = f"ln -s {host}/file /probe; exec sleep 3600"
        container = spawn("--volume", f"{source}:/mnt/probe", image, "sh", "-c", script)
        docker("stop", "--time", "0", container)
        docker("cp", f"{container}:/mnt/probe", f"{tmp_path}/back")
        assert (tmp_path / "back").read_text() == "shared"
    finally:
        source.unlink()


@ours
def test_files_of_the_kernel_in_a_volume_are_left_out(
    docker: DockerClient, sdk: sdk_package.DockerClient, image: str, spawn: Spawn
) -> None:
    container = spawn("--volume", "/proc:/mnt/proc:ro", "--volume", "/sys:/mnt/sys:ro", image, "sleep", "3600")
    pieces, _ = sdk.containers.get(container).get_archive("/mnt")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert archive.getnames() == ["mnt", "mnt/proc", "mnt/sys"]
    failed = docker.fails("cp", f"{container}:/mnt/proc/version", "-")
    assert "Could not find the file" in failed.stderr
