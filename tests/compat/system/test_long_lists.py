"""Lists that are longer than a message between services may be, and what is refused for its length."""

import io
import json
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import Engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry

Unique = Callable[[str], str]

# Admitted, and together more than 16 MiB.
_LABEL = "x" * 1_000_000
_IMAGES = 18

own_bound = pytest.mark.skipif(bool(TARGET), reason="the bound is this engine's own")


def archive(path: Path, names: list[str], config: dict[str, Any]) -> Path:
    """Write an archive of images of one layer, that differ in a label."""
    content = tar(Entry("file", b"1"))
    with tarfile.open(path, "w") as written:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))

        add("layer.tar", content)
        listed = []
        for number, name in enumerate(names):
            labels = config.get("Labels", {}) | {"number": str(number)}
            add(f"{number}.json", Image([layer(content, "none")], config | {"Labels": labels}).config_blob())
            listed.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
        add("manifest.json", json.dumps(listed).encode())
    return path


@pytest.fixture
def long_images(docker: DockerClient, unique: Unique, tmp_path: Path) -> Iterator[list[str]]:
    """Images with long labels."""
    names = [f"{unique('long')}:{number}" for number in range(_IMAGES)]
    config = {"Cmd": ["true"], "Labels": {"much": _LABEL}}
    docker("load", "--quiet", "--input", str(archive(tmp_path / "long.tar", names, config)))
    yield names
    docker("rmi", "--force", *names)


def get(docker: DockerClient, path: str) -> Any:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()


def test_images_and_containers_with_long_labels_are_listed_whole(
    docker: DockerClient, long_images: list[str], container_name: Callable[[], str]
) -> None:
    assert set(long_images) <= set(docker("images", "--format", "{{.Repository}}:{{.Tag}}").lines)
    rows = [row for row in get(docker, "/images/json") if set(row["RepoTags"]) & set(long_images)]
    assert [row["Labels"]["much"] for row in rows] == [_LABEL] * _IMAGES
    used = [row for row in get(docker, "/system/df?type=image")["Images"] if set(row["RepoTags"]) & set(long_images)]
    assert [row["Labels"]["much"] for row in used] == [_LABEL] * _IMAGES
    containers = [container_name() for _ in long_images]
    for name, image in zip(containers, long_images, strict=True):
        docker("create", "--name", name, image)
    listed = {row["Names"][0][1:]: row["Labels"]["much"] for row in get(docker, "/containers/json?all=1")}
    assert [listed[name] for name in containers] == [_LABEL] * _IMAGES
    assert set(containers) <= set(docker("ps", "--all", "--format", "{{.Names}}").lines)
    docker("system", "df")


def test_a_list_that_nobody_reads_to_its_end_holds_nothing_up(docker: DockerClient, long_images: list[str]) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(docker.host.removeprefix("unix://"))
            connection.sendall(b"GET /images/json HTTP/1.1\r\nHost: docker\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert set(long_images) <= set(docker("images", "--format", "{{.Repository}}:{{.Tag}}").lines)


def test_a_diff_of_200_000_files_is_told_whole(
    docker: DockerClient, spawn: Spawn, image: str, request: pytest.FixtureRequest
) -> None:
    name = spawn(image, "sh", "-c", "mkdir /d && cd /d && seq 200000 | xargs touch")
    assert docker("wait", name, timeout=120).line == "0"
    expected = {"A /d", *(f"A /d/{number}" for number in range(1, 200_001))}
    assert set(docker("diff", name).lines) == expected
    if not TARGET:
        engine: Engine = request.getfixturevalue("engine")
        assert set(engine.sampan("diff", name).lines) == expected


@own_bound
def test_an_image_with_too_long_labels_is_refused_by_every_way_in(
    docker: DockerClient, registry: Registry, unique: Unique, tmp_path: Path, sleeper: str
) -> None:
    name, much = unique("refused"), "x" * 4_000_000
    config = {"Cmd": ["true"], "Labels": {"much": much}}
    loaded = docker.fails("load", "--input", str(archive(tmp_path / "a.tar", [f"{name}:1"], config)))
    push(registry, name, "1", Image([layer(tar(Entry("file", b"1")))], config))
    pulled = docker.fails("pull", f"{registry.address}/{name}:1")
    assert (loaded.code, pulled.code) == (1, 1)
    for refusal in (loaded.stderr, pulled.stderr):
        assert "labels: 4000" in refusal
        assert "bytes in all, the most is 1048576" in refusal
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    body = json.dumps({"Labels": {"much": much}}).encode()
    connection.request("POST", f"/commit?container={sleeper}&repo={name}", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, b"labels: 4000" in answer.read()) == (400, True)
    connection.close()
    assert not [line for line in docker("images", "--all", "--format", "{{.Repository}}").lines if name in line]


@own_bound
@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/containers/create", {"Image": "IMAGE", "Env": ["A=" + "x" * 3_000_000]}, "command and environment: 3000"),
        ("/containers/create", {"Image": "IMAGE", "Labels": {"a": "x" * 3_000_000}}, "labels: 3000"),
        (
            "/containers/create",
            {"Image": "IMAGE", "HostConfig": {"ExtraHosts": ["x" * 15_000_000 + ":1.2.3.4"]}},
            "container, most of it in extra hosts: ",
        ),
        ("/containers/SLEEPER/exec", {"Cmd": ["true", "x" * 3_000_000]}, "exec: command and environment: 3000"),
        ("/volumes/create", {"Name": "long", "Labels": {"a": "x" * 2_000_000}}, "labels: 2000"),
        ("/volumes/create", {"Name": "v" * 256}, "volume name"),
        ("/networks/create", {"Name": "long", "Options": {"a": "x" * 2_000_000}}, "options: 2000"),
        ("/networks/create", {"Name": "n" * 256}, "network name"),
    ],
)
def test_what_is_too_long_is_a_bad_request_that_names_field_and_bound(
    docker: DockerClient, image: str, sleeper: str, path: str, body: dict[str, Any], words: str
) -> None:
    sent = json.dumps({key: image if value == "IMAGE" else value for key, value in body.items()}).encode()
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    connection.request("POST", path.replace("SLEEPER", sleeper), sent, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    message = json.loads(answer.read())["message"]
    connection.close()
    assert answer.status == 400
    assert words in message
    assert "the most is" in message
