"""The Docker SDK for Python and aiodocker: clients that read answers more strictly than the docker program does."""

import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Callable

import aiodocker
import pytest
from docker import DockerClient as Sdk
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from tests.support.docker_client import DockerClient
from tests.support.images import Image, layer, push
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar


def random_tar(size: int) -> bytes:
    """Return a tar of one file that nobody has seen."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("random")
        info.size = size
        archive.addfile(info, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def test_versions_agree(sdk: Sdk) -> None:
    assert sdk.ping()
    assert sdk.version()["ApiVersion"] == sdk.api.api_version or sdk.version()["MinAPIVersion"]
    assert sdk.info()["OSType"] == "linux"


def test_run_returns_output_or_raises(sdk: Sdk, image: str) -> None:
    assert sdk.containers.run(image, ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(ContainerError) as caught:
        sdk.containers.run(image, ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (4, b"bad\n")


def test_missing_things_raise_what_callers_catch(sdk: Sdk, image: str) -> None:
    with pytest.raises(ImageNotFound):
        sdk.images.get("nonesuch:1")
    with pytest.raises(NotFound):
        sdk.containers.get("nobody")
    with pytest.raises(APIError) as caught:
        sdk.containers.create(image, name="x")
    assert caught.value.status_code == 400
    with pytest.raises(ImageNotFound):
        sdk.containers.create("nonesuch:1")


def test_container_object_follows_the_container(sdk: Sdk, image: str, container_name: Callable[[], str]) -> None:
    container = sdk.containers.run(
        image,
        ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"],
        name=container_name(),
        detach=True,
        environment={"A": "1"},
        labels={"l": "v"},
        mem_limit="64m",
    )
    assert container.status == "created"
    container.reload()
    assert container.status == "running"
    assert container.labels == {"l": "v"}
    assert next(iter(container.logs(stream=True, follow=True))) == b"up\n"
    code, output = container.exec_run(["sh", "-c", "sleep 0.2; echo $A; exit 3"])
    assert (code, output) == (3, b"1\n")
    demuxed = container.exec_run(["sh", "-c", "sleep 0.2; echo o; echo e >&2"], demux=True)
    assert demuxed.output == (b"o\n", b"e\n")
    container.pause()
    container.unpause()
    assert container.top()["Processes"]
    assert container.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
    container.stop(timeout=60)
    assert container.wait()["StatusCode"] == 0
    container.remove()


def test_wait_for_removal_gives_the_exit_code(sdk: Sdk, image: str) -> None:
    container = sdk.containers.create(image, ["sh", "-c", "exit 6"], auto_remove=True)
    container.start()
    with contextlib.suppress(NotFound):  # it was gone before the request arrived: Docker says so, too
        assert container.wait(condition="removed")["StatusCode"] == 6


def test_attach_socket_takes_input_and_gives_frames(sdk: Sdk, image: str, container_name: Callable[[], str]) -> None:
    container = sdk.containers.create(image, "cat", name=container_name(), stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"ping\n")
    stream._sock.settimeout(60)
    assert stream._sock.recv(13, socket.MSG_WAITALL) == b"\x01\0\0\0\0\0\0\x05ping\n"
    stream.close()
    container.kill()


def test_pull_lists_and_removes(sdk: Sdk, registry: Registry, unique: Callable[[str], str]) -> None:
    name = unique("sdk")
    push(registry, name, "1", Image([layer(busybox_tar())], BUSYBOX_CONFIG | {"Labels": {"n": name}}))
    pulled = sdk.images.pull(f"{registry.address}/{name}", tag="1")
    assert pulled.tags == [f"{registry.address}/{name}:1"]
    assert pulled.id in [each.id for each in sdk.images.list(filters={"label": f"n={name}"})]
    assert pulled.history()
    assert pulled.tag("other", "2")
    sdk.images.remove("other:2")
    sdk.images.remove(pulled.id, force=True)
    with pytest.raises(ImageNotFound):
        pulled.reload()


def test_progress_is_a_stream_of_objects(sdk: Sdk, registry: Registry, unique: Callable[[str], str]) -> None:
    name = unique("progress")
    push(registry, name, "1", Image([layer(busybox_tar())], BUSYBOX_CONFIG | {"Labels": {"n": name}}))
    told = list(sdk.api.pull(f"{registry.address}/{name}", tag="1", stream=True, decode=True))
    statuses = [line.get("status", "") for line in told]
    assert any(status.startswith("Pulling from") for status in statuses)
    assert any(status.startswith("Digest: sha256:") for status in statuses)
    assert not [line for line in told if "error" in line]


def test_import_takes_a_stream(sdk: Sdk, unique: Callable[[str], str]) -> None:
    name = unique("sdk-import")
    sdk.api.import_image_from_data(busybox_tar(), repository=name, tag="1")
    assert sdk.containers.run(f"{name}:1", ["echo", "in"], remove=True) == b"in\n"


def test_archive_goes_in_and_out(sdk: Sdk, image: str, container_name: Callable[[], str]) -> None:
    container = sdk.containers.create(image, "true", name=container_name())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("put")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"data"))
    try:
        container.put_archive("/tmp", buffer.getvalue())
    except APIError as error:
        if error.status_code == 501:
            pytest.xfail("this engine does not copy archives yet, and says so")
        raise
    pieces, stat = container.get_archive("/tmp/put")
    assert stat["size"] == 4
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.extractfile("put")
        assert member is not None
        assert member.read() == b"data"


@pytest.mark.parametrize("path", ["/.", ".", "./", "/./", "etc/."])
def test_what_is_in_a_directory_is_named_from_there(
    sdk: Sdk, image: str, container_name: Callable[[], str], path: str
) -> None:
    pieces, _ = sdk.containers.create(image, "true", name=container_name()).get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        names = archive.getnames()
    assert names[0] == "."
    assert all(name.startswith("./") for name in names[1:])


def test_what_was_sent_is_loaded_though_nobody_reads_the_answer(
    docker: DockerClient, sdk: Sdk, unique: Callable[[str], str]
) -> None:
    name = unique("unheard")
    sdk.api.import_image_from_data(random_tar(8 << 20), repository=name, tag="1")
    archive = b"".join(sdk.images.get(f"{name}:1").save(named=f"{name}:1"))
    sdk.images.remove(f"{name}:1")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(docker.host.removeprefix("unix://"))
        head = f"POST /images/load HTTP/1.1\r\nHost: docker\r\nContent-Length: {len(archive)}\r\n\r\n"
        line.sendall(head.encode() + archive)
        assert line.recv(12) == b"HTTP/1.1 200"
    eventually(lambda: bool(sdk.images.list(name)), "the image is there")
    sdk.images.remove(f"{name}:1")


def test_attaching_to_neither_output_nor_logs_ends_at_once(sdk: Sdk, sleeper: str) -> None:
    assert sdk.api.attach(sleeper, stream=False, logs=False) == b""


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.40", "1.41", "1.43", "1.44", "1.47", "1.50", "1.52"])
def test_every_version_of_the_api_runs_a_container(docker: DockerClient, image: str, version: str) -> None:
    if version < "1.40":  # the SDK refuses what is older
        shown = DockerClient(docker.host, docker.config, {"DOCKER_API_VERSION": version})(
            "run", "--rm", image, "echo", "old"
        )
        assert shown.line == "old"
        return
    client = Sdk(base_url=docker.host, version=version)
    assert client.containers.run(image, ["echo", "hi"], remove=True) == b"hi\n"
    client.close()


async def test_aiodocker_runs_a_container(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    async with aiodocker.Docker(url=docker.host) as client:
        config = {"Image": image, "Cmd": ["sh", "-c", "echo from aio; exit 5"]}
        container = await client.containers.create(config, name=unique("aio"))
        await container.start()
        assert (await container.wait())["StatusCode"] == 5
        assert await container.log(stdout=True) == ["from aio\n"]
        await container.delete(force=True)


async def test_aiodocker_talks_to_an_exec(docker: DockerClient, sleeper: str) -> None:
    async with aiodocker.Docker(url=docker.host) as client:
        container = await client.containers.get(sleeper)
        execution = await container.exec(["cat"], stdin=True)
        async with execution.start(detach=False) as stream:
            await stream.write_in(b"hello\n")
            message = await stream.read_out()
            assert message is not None
            assert message.data == b"hello\n"
