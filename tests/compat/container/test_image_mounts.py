"""Images, and parts of volumes, mounted in containers: by the docker client and by ``sampan``."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator

import docker as sdk_package
import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(bool(TARGET), reason="dockerd 20.10 mounts neither images nor parts of volumes"),
    pytest.mark.usefixtures("nothing_left"),
]

Client = Callable[..., Result]


@pytest.fixture(params=["docker", "sampan"])
def client(request: pytest.FixtureRequest, docker: DockerClient) -> Client:
    """Run one of the two clients, whatever its exit code."""
    engine: Engine = request.getfixturevalue("engine")
    return docker.fails if request.param == "docker" else engine.sampan_fails


@pytest.fixture
def tools(docker: DockerClient, image: str, spawn: Spawn, unique: Callable[[str], str]) -> Iterator[str]:
    """An image with ``/opt/bin/tool`` and two links to its directory, one of which would lead out of it."""
    name = unique("tools")
    script = "mkdir -p /opt/bin && echo sharp > /opt/bin/tool && ln -s /opt/bin /inside && ln -s ../../opt/bin /above"
    made = spawn("--network", "none", image, "sh", "-c", script)
    docker("wait", made)
    docker("commit", made, name)
    yield name
    docker.fails("rmi", "--force", name)


@pytest.fixture
def volume(docker: DockerClient, image: str, unique: Callable[[str], str]) -> Iterator[str]:
    """A volume with ``a/b/file``, and links beside it."""
    name = unique("volume")
    script = "mkdir -p /v/a/b && echo content > /v/a/b/file && ln -s /a/b /v/inside && ln -s /etc /v/outside"
    docker("run", "--rm", "--network", "none", "--volume", f"{name}:/v", image, "sh", "-c", script)
    yield name
    docker.fails("volume", "rm", name)


def mounted(client: Client, image: str, mount: str, script: str) -> Result:
    return client("run", "--rm", "--network", "none", "--mount", mount, image, "sh", "-c", script)


@pytest.mark.parametrize(
    ("subpath", "script"),
    [
        ("", "cat /x/opt/bin/tool"),
        ("opt", "cat /x/bin/tool"),
        ("opt/bin/tool", "cat /x"),
        ("inside", "cat /x/tool"),
        ("above/tool", "cat /x"),
    ],
)
def test_an_image_is_shown_and_cannot_be_written_to(
    client: Client, image: str, tools: str, subpath: str, script: str
) -> None:
    mount = f"type=image,source={tools},target=/x" + (f",image-subpath={subpath}" if subpath else "")
    assert mounted(client, image, mount, script).line == "sharp"
    failed = mounted(client, image, mount, "echo blunt > /x/file || echo blunt > /x")
    assert failed.code != 0
    assert "Read-only file system" in failed.stderr


def test_an_image_is_held_while_a_container_mounts_it(
    docker: DockerClient, image: str, tools: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    docker("create", "--name", name, "--mount", f"type=image,source={tools},target=/x", image, "cat", "/x/opt/bin/tool")
    refused = docker.fails("rmi", tools)
    assert refused.code == 1
    assert "is using its referenced image" in refused.stderr
    docker("rmi", "--force", tools)  # its name, and what it shows stays
    assert docker("start", "--attach", name).line == "sharp"
    (point,) = json.loads(docker("inspect", "--format", "{{json .Mounts}}", name).stdout)
    assert (point["Type"], point["Name"], point["Destination"], point["RW"]) == ("image", tools, "/x", False)


def test_it_outlives_a_restart_and_others_take_it_over(
    docker: DockerClient, image: str, tools: str, spawn: Spawn, run: Callable[..., Result]
) -> None:
    name = spawn("--mount", f"type=image,source={tools},target=/x,image-subpath=opt", image, "sleep", "1000")
    docker("restart", "--time", "0", name)
    assert docker("exec", name, "cat", "/x/bin/tool").line == "sharp"
    assert run("cat /x/bin/tool", "--volumes-from", name).line == "sharp"
    docker("rm", "--force", name)  # before its image


def test_files_of_it_can_be_copied_before_the_first_start(
    sdk: sdk_package.DockerClient,
    docker: DockerClient,
    image: str,
    tools: str,
    volume: str,
    container_name: Callable[[], str],
) -> None:
    name = container_name()
    mounts = [
        f"type=image,source={tools},target=/x,image-subpath=opt",
        f"type=volume,source={volume},target=/y,volume-subpath=a",
        f"type=volume,source={volume},target=/z,volume-subpath=a/b/file",
    ]
    docker("create", "--name", name, *(word for mount in mounts for word in ("--mount", mount)), image, "true")
    for path, member in (("/x/bin", "bin/tool"), ("/y", "y/b/file"), ("/z", "z")):
        pieces, _ = sdk.api.get_archive(name, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            assert member in archive.getnames()


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("type=image,source=nonesuch,target=/x", "No such image: nonesuch"),
        ("type=image,source={tools},target=/x,image-subpath=/opt", "subpath must be a relative path within the volume"),
        ("type=image,source={tools},target=/x,image-subpath=nope", "cannot access path"),
        ("type=volume,source={volume},target=/x,volume-subpath=../x", "subpath must be a relative path"),
        ("type=volume,source={volume},target=/x,volume-subpath=a/nope", "cannot access path"),
        ("type=volume,source={volume},target=/x,volume-subpath=outside", "cannot access path"),
        ("type=volume,target=/x,volume-subpath=a", "must not set Subpath when using anonymous volumes"),
    ],
)
def test_what_is_not_there_or_leads_out_is_refused(
    client: Client, image: str, tools: str, volume: str, mount: str, words: str
) -> None:
    refused = mounted(client, image, mount.format(tools=tools, volume=volume), "true")
    assert refused.code in (125, 127)
    assert words in refused.stderr


@pytest.mark.parametrize("subpath", ["a/b", "inside", "./a/./b"])
def test_a_part_of_a_volume_is_the_volumes_own(client: Client, image: str, volume: str, subpath: str) -> None:
    mount = f"type=volume,source={volume},target=/x,volume-subpath={subpath}"
    assert mounted(client, image, mount, "cat /x/file; echo more > /x/written").line == "content"
    whole = client("run", "--rm", "--network", "none", "--volume", f"{volume}:/v", image, "cat", "/v/a/b/written")
    assert whole.line == "more"


def test_a_part_of_a_volume_is_not_filled_from_the_image(client: Client, image: str, volume: str) -> None:
    mount = f"type=volume,source={volume},target=/etc,volume-subpath=a/b"
    assert "passwd" not in mounted(client, image, mount, "ls /etc").lines
