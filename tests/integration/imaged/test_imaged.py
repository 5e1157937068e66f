"""imaged as a process, over its socket, with Debian's docker-registry."""

import asyncio
import contextlib
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from sampan.api.image.v1 import images_pb2 as pb
from sampan.errors import (
    ConflictError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    RemoteError,
    ResourceExhaustedError,
    SampanError,
    UnauthenticatedError,
)
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole
from tests.fakes.registry import FakeRegistry, Fault
from tests.support import images
from tests.support.imaged_process import Imaged, imaged, until
from tests.support.registry import Registry, run_registry
from tests.support.tools import free_port, need, need_root, unmount

LAYER = images.layer(images.tar(images.Entry("noise", os.urandom(3_000_000))))
SMALL = images.layer(images.tar(images.Entry("hello", b"hello")), "none")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Imaged]:
    async with imaged(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.mark.parametrize("oci", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_image_is_pulled_by_tag_and_by_digest(
    service: Imaged, registry: Registry, oci: bool, compression: str
) -> None:
    layer = images.layer(images.tar(images.Entry("a", b"a" * 5000)), compression)
    image = images.Image([SMALL, layer], {"Cmd": ["/a"], "Labels": {"x": "y"}}, oci=oci)
    digest = images.push(registry, "some/app", "1", image)
    by_tag = await service.pull(f"{registry.address}/some/app:1")
    by_digest = await service.pull(f"{registry.address}/some/app@{digest}")
    assert by_tag.id == by_digest.id == image.id
    assert by_tag.repo_tags == [f"{registry.address}/some/app:1"]
    assert by_tag.repo_digests == [f"{registry.address}/some/app@{digest}"]
    assert [layer.diff_id for layer in by_tag.layers] == [each.diff_id for each in image.layers]
    assert (list(by_tag.config.cmd), dict(by_tag.config.labels)) == (["/a"], {"x": "y"})


async def test_zstd_layers_are_pulled(service: Imaged, registry: Registry) -> None:
    image = images.Image([images.layer(images.tar(images.Entry("z", b"z" * 5000)), "zstd")], oci=True)
    images.push(registry, "zstd", "1", image)
    assert (await service.pull(f"{registry.address}/zstd:1")).id == image.id


@pytest.mark.parametrize("oci", [False, True])
async def test_this_hosts_image_is_chosen_from_a_list(service: Imaged, registry: Registry, oci: bool) -> None:
    amd = images.Image([SMALL], {"Labels": {"for": "amd64"}}, oci=oci)
    arm = images.Image([SMALL], {"Labels": {"for": "arm64"}}, oci=oci, architecture="arm64", variant="v8")
    digest = images.push_index(registry, "many", "1", [arm, amd], oci=oci)
    image = await service.pull(f"{registry.address}/many:1")
    assert image.id == amd.id
    assert image.target.digest == digest
    assert image.manifest.digest != digest


async def test_images_live_through_a_restart(tmp_path: Path, registry: Registry) -> None:
    images.push(registry, "stay", "1", images.Image([LAYER]))
    async with imaged(tmp_path) as service:
        before = await service.pull(f"{registry.address}/stay:1")
    async with imaged(tmp_path) as service:
        listed = await whole(service.stub.List(pb.ListRequest()))
        assert list(listed.images) == [before]
        steps = await service.fetch(f"{registry.address}/stay:1")
        assert {step.layer.phase for step in steps[1:-1]} == {pb.FetchProgress.WAITING, pb.FetchProgress.EXISTED}


async def test_basic_authentication_and_login(service: Imaged, tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", credentials=("alice", "sesame")) as registry:
        images.push(registry, "app", "1", images.Image([SMALL]))
        name = f"{registry.address}/app:1"
        good, bad = (pb.Credentials(username="alice", password=word) for word in ("sesame", "wrong"))
        with pytest.raises(UnauthenticatedError, match="no basic auth credentials"):
            await service.pull(name)
        with pytest.raises(UnauthenticatedError, match="authentication required"):
            await service.pull(name, bad)
        await service.pull(name, good)
        with rpc_errors():
            answer = await service.stub.Login(pb.LoginRequest(registry=registry.address, credentials=good))
        assert answer.status == "Login Succeeded"
        with pytest.raises(UnauthenticatedError), rpc_errors():
            await service.stub.Login(pb.LoginRequest(registry=registry.address, credentials=bad))


async def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", tls=True) as registry:
        images.push(registry, "app", "1", images.Image([SMALL]))
        host, other = registry.address, "unrelated:5000"
        for name in (other, host):
            (tmp_path / "certs" / name).mkdir(parents=True)
        assert registry.ca is not None
        configs = {
            "ca in the file": f'[[registries]]\nhost = "{host}"\nca_file = "{registry.ca}"',
            "no verification": "",  # loopback is insecure by default, as for Docker
        }
        for name, config in configs.items():
            root = tmp_path / name.replace(" ", "-")
            root.mkdir()
            async with imaged(root, config) as service:
                await service.pull(f"{host}/app:1")
        wrong = tmp_path / "wrong"
        wrong.mkdir()
        with run_registry(tmp_path / "registry2", tls=True) as second:
            config = f'[[registries]]\nhost = "{host}"\nca_file = "{second.ca}"'
            async with imaged(wrong, config) as service:
                with pytest.raises(RemoteError, match="x509: certificate signed by unknown authority"):
                    await service.pull(f"{host}/app:1")
        (tmp_path / f"certs/{host}/ca.crt").write_bytes(registry.ca.read_bytes())
        directory = tmp_path / "directory"
        directory.mkdir()
        async with imaged(directory, f'certs_dirs = ["{tmp_path}/certs"]') as service:
            await service.pull(f"{host}/app:1")


async def test_mirror_with_credentials_stands_in_for_docker_io(tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", credentials=("m", "secret")) as mirror:
        images.push(mirror, "library/app", "latest", images.Image([SMALL]))
        config = (
            'docker_io_host = "127.0.0.1:1"\n[[registries]]\nhost = "docker.io"\n[[registries.mirrors]]\n'
            f'url = "{mirror.url}"\nusername = "m"\npassword = "secret"'
        )
        async with imaged(tmp_path, config) as service:
            assert (await service.pull("app")).repo_tags == ["app:latest"]
            with pytest.raises(RemoteError, match=r"127\.0\.0\.1:1"):
                await service.pull("nosuch")


async def test_failures_are_told_apart(service: Imaged, registry: Registry) -> None:
    images.push(registry, "known", "1", images.Image([SMALL]))
    name = f"{registry.address}/known"
    cases: list[tuple[str, type[SampanError], str]] = [
        (f"{name}:nope", NotFoundError, f"manifest for {name}:nope not found: manifest unknown: manifest unknown"),
        (f"{registry.address}/nosuch", NotFoundError, "not found"),
        ("localhost:1/x", RemoteError, 'Get "http://localhost:1/v2/": dial tcp'),
        ("Not A Name", InvalidArgumentError, "invalid reference format"),
    ]
    for reference, kind, words in cases:
        with pytest.raises(kind) as caught:
            await service.fetch(reference)
        assert words in str(caught.value)
    assert service.files("blobs/sha256") == service.files("ingests") == set()


async def test_corrupt_blob_in_a_real_registry_is_data_loss(service: Imaged, registry: Registry) -> None:
    layer = images.layer(images.tar(images.Entry("c", os.urandom(100_000))))
    images.push(registry, "corrupt", "1", images.Image([layer]))
    file = registry.blob_file(images.sha256(layer.blob))
    data = bytearray(file.read_bytes())
    data[50_000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataLossError, match=images.sha256(layer.blob)):
        await service.fetch(f"{registry.address}/corrupt:1")
    assert service.files("blobs/sha256") == service.files("ingests") == set()


async def test_client_that_leaves_in_the_middle_leaves_nothing_to_see(service: Imaged) -> None:
    async with FakeRegistry().running() as registry:
        registry.add_image("x", "1", os.urandom(3_000_000))
        digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
        registry.faults.append(Fault(f"/blobs/{digest}", stall_after=1_500_000))
        call = service.stub.Fetch(pb.FetchRequest(reference=f"{registry.address}/x:1"))
        async for step in call:
            if step.layer.digest == digest and step.layer.offset == 1_500_000:  # all that has come is on disk
                break
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        assert list((await whole(service.stub.List(pb.ListRequest()))).images) == []
        registry.requests.clear()
        await service.pull(f"{registry.address}/x:1")
        (headers,) = (headers for _, path, headers in registry.requests if digest in path)
        assert headers["Range"] == f"bytes=1500000-{len(registry.blobs[digest]) - 1}"
        assert service.files("partials") == set()


async def test_kill_in_the_middle_of_a_fetch_leaves_a_consistent_store(tmp_path: Path, registry: Registry) -> None:
    images.push(registry, "good", "1", images.Image([SMALL]))
    async with FakeRegistry().running() as slow:
        slow.add_image("x", "1", b"first" * 1000, os.urandom(3_000_000))
        digest = max(slow.blobs, key=lambda d: len(slow.blobs[d]))
        slow.faults.append(Fault(f"/blobs/{digest}", stall_after=1_500_000))
        async with imaged(tmp_path) as service:
            good = await service.pull(f"{registry.address}/good:1")
            kept = service.files("blobs/sha256")
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for step in service.stub.Fetch(pb.FetchRequest(reference=f"{slow.address}/x:1")):
                    if step.layer.digest == digest and step.layer.offset:
                        service.process.send_signal(signal.SIGKILL)
            await service.process.wait()
            brought = service.files("blobs/sha256")
            assert len(brought) > len(kept)
        async with imaged(tmp_path) as service:
            assert service.files("blobs/sha256") == brought
            assert list((await whole(service.stub.List(pb.ListRequest()))).images) == [good]
            await service.pull(f"{slow.address}/x:1")


async def test_stop_in_the_middle_of_a_fetch_is_quick_and_clean(tmp_path: Path) -> None:
    async with FakeRegistry().running() as slow:
        slow.add_image("x", "1", os.urandom(3_000_000))
        digest = max(slow.blobs, key=lambda d: len(slow.blobs[d]))
        slow.faults.append(Fault(f"/blobs/{digest}", stall_after=1000))
        async with imaged(tmp_path, "grace_s = 0.2") as service:
            call = service.stub.Fetch(pb.FetchRequest(reference=f"{slow.address}/x:1"))
            await slow.asked(digest)
            service.process.terminate()
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            async with asyncio.timeout(60):
                assert await service.process.wait() == 0
            assert service.files("ingests") == set()


async def test_import_tag_and_remove(service: Imaged) -> None:
    imported = await service.load(images.tar(images.Entry("x", b"x")), 'ENTRYPOINT ["/x"]', reference="made:1")
    with rpc_errors():
        created = await service.stub.Create(
            pb.CreateRequest(reference="made:1", target=imported.target, lease=imported.lease)
        )
        assert list(created.image.config.entrypoint) == ["/x"]
        await service.stub.Tag(pb.TagRequest(image="made:1", reference="other/made:2"))
    with pytest.raises(ConflictError, match="referenced in multiple repositories"), rpc_errors():
        await whole(service.stub.Remove(pb.RemoveRequest(image=imported.image_id)))
    use = pb.ImageUse(image=imported.image_id, container="c" * 64, running=True)
    request = pb.RemoveRequest(image=imported.image_id, force=True, in_use=[use])
    with pytest.raises(ConflictError, match=r"used by running container c{12}$"), rpc_errors():
        await whole(service.stub.Remove(request))
    with rpc_errors():
        removed = await whole(service.stub.Remove(pb.RemoveRequest(image=imported.image_id, force=True)))
    *names, image = removed.changes
    assert sorted(change.untagged for change in names) == ["made:1", "other/made:2"]
    assert {change.image for change in removed.changes} == {imported.image_id}
    assert (image.untagged, list(image.chain_ids)) == ("", [imported.layers[0].diff_id])
    assert service.files("blobs/sha256") == set()


async def test_client_that_leaves_an_import_leaves_nothing(service: Imaged) -> None:
    begun = asyncio.Event()

    async def parts() -> AsyncIterator[pb.ImportRequest]:
        yield pb.ImportRequest(options=pb.ImportRequest.Options())
        yield pb.ImportRequest(chunk=images.tar(images.Entry("x", os.urandom(2_000_000))))
        begun.set()
        await asyncio.Event().wait()

    call = service.stub.Import(parts())
    await begun.wait()
    await until(lambda: bool(service.files("ingests")))
    call.cancel()
    await until(lambda: not service.files("ingests") | service.files("blobs/sha256"))


async def test_bad_import_is_refused(service: Imaged) -> None:
    with pytest.raises(InvalidArgumentError, match="not a tar archive"):
        await service.load(b"nothing of the sort" * 1000)
    with pytest.raises(InvalidArgumentError, match="invalid reference format"):
        await service.load(images.tar(), reference="Not A Name")
    assert service.files("ingests") == set()


@pytest.mark.root
async def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, registry: Registry) -> None:
    need_root()
    big = images.layer(images.tar(images.Entry("big", os.urandom(12_000_000))))
    images.push(registry, "big", "1", images.Image([big]))
    images.push(registry, "small", "1", images.Image([SMALL]))
    mount = tmp_path / "data"
    mount.mkdir()
    await _run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount))
    try:
        async with imaged(tmp_path) as service:
            with pytest.raises(ResourceExhaustedError, match="no space left on device"):
                await service.fetch(f"{registry.address}/big:1")
            assert service.files("blobs/sha256") == service.files("ingests") == set()
            await service.pull(f"{registry.address}/small:1")
    finally:
        await asyncio.to_thread(unmount, mount)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_config_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "imaged.toml"
    config.write_text('[[registries]]\nhost = "x"\ninsecur = true\n')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "imaged", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"registries[0].insecur" in stderr
    assert b"did you mean 'insecure'?" in stderr


async def test_metrics_pass_promtool(tmp_path: Path, registry: Registry) -> None:
    need("promtool")
    images.push(registry, "measured", "1", images.Image([SMALL]))
    port = free_port()
    async with imaged(tmp_path, f'metrics = "127.0.0.1:{port}"') as service:
        await service.pull(f"{registry.address}/measured:1")
        url = f"http://127.0.0.1:{port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read())
    process = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    complaints, _ = await process.communicate(text)
    assert [line for line in complaints.splitlines() if b"sampan_" in line] == []
    assert b'sampan_image_pulls_total{outcome="fetched"} 1.0' in text
    assert b'sampan_image_pull_bytes_total{phase="downloaded"}' in text


async def test_memory_at_rest_is_small(service: Imaged) -> None:
    assert service.memory_kb() < 60_000
