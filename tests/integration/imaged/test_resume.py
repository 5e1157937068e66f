"""Pulls that are killed, cut off, or meet a full disk, with imaged as a process; and what they cost in memory."""

import asyncio
import contextlib
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from imaged.content.ranges import Range, Ranges
from sampan.api.image.v1 import images_pb2 as pb
from sampan.errors import RemoteError, ResourceExhaustedError
from sampan.wire.pages import whole
from tests.fakes.registry import DOCKER_LAYER_GZIP, DOCKER_MANIFEST, FakeRegistry, Fault, sha256
from tests.support.imaged_process import Imaged, imaged
from tests.support.tools import need_root, unmount

KILLS = 20


def brought(root: Path, digest: str, size: int) -> Ranges:
    """Which of a blob's bytes a killed imaged has on disk."""
    if (root / f"data/imaged/blobs/sha256/{digest[7:]}").exists():
        return Ranges([Range(0, size)])
    try:
        lines = (root / f"data/imaged/partials/{digest[7:]}.ranges").read_text().splitlines()
    except FileNotFoundError:
        return Ranges()
    return Ranges(Range(int(start), int(end)) for start, end in (line.split() for line in lines))


def asked(registry: FakeRegistry, digest: str) -> list[Range]:
    """Which of a blob's bytes the registry was asked for."""
    size = len(registry.blobs[digest])
    found = []
    for _, path, headers in registry.requests:
        if digest in path:
            start, _, end = headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
            found.append(Range(int(start), int(end) + 1))
    return found


@pytest.mark.slow
async def test_killed_at_many_points_a_pull_fetches_only_what_is_missing(tmp_path: Path) -> None:
    chance = random.Random(1)
    async with FakeRegistry().running() as registry:
        registry.piece_delay_s = 0.02
        registry.add_image("x", "1", os.urandom(36_000_000), os.urandom(3_000_000), b"small")
        here: dict[str, Ranges] = {}
        kills = 0
        for _ in range(KILLS * 6):
            async with imaged(tmp_path) as service:
                registry.requests.clear()
                fetch = asyncio.create_task(service.fetch(f"{registry.address}/x:1"))
                await registry.asked("/manifests/")
                await asyncio.sleep(chance.uniform(0, 0.4))
                if not fetch.done():
                    kills += 1
                service.process.send_signal(signal.SIGKILL)
                await service.process.wait()
                await asyncio.wait([fetch])
                assert fetch.exception() is not None or fetch.done()
            only_missing(registry, here)
            here = {digest: brought(tmp_path, digest, len(data)) for digest, data in registry.blobs.items()}
            if kills >= KILLS and sum(ranges.size for ranges in here.values()) > 5_000_000:
                break  # which takes more of them on a busy machine, where little comes between two kills
        assert kills > KILLS / 2
        assert sum(ranges.size for ranges in here.values()) > 5_000_000
        registry.requests.clear()
        async with imaged(tmp_path) as service:
            image = await service.pull(f"{registry.address}/x:1")
            assert image.repo_tags == [f"{registry.address}/x:1"]
            only_missing(registry, here)
            assert service.files("partials") == service.files("ingests") == set()
            assert {f"sha256:{name}" for name in service.files("blobs/sha256")} >= registry.blobs.keys()
            for digest, data in registry.blobs.items():
                assert (tmp_path / f"data/imaged/blobs/sha256/{digest[7:]}").read_bytes() == data


def only_missing(registry: FakeRegistry, here: dict[str, Ranges]) -> None:
    for digest, ranges in here.items():
        for wanted in asked(registry, digest):
            assert ranges.missing(wanted) == [wanted], f"{digest}: {wanted} is here in part"


async def test_registry_that_is_unplugged_half_way_is_gone_on_with(tmp_path: Path) -> None:
    async with FakeRegistry().running() as registry:
        registry.add_image("x", "1", os.urandom(3_000_000))
        digest = registry.largest
        registry.faults.append(Fault(f"/blobs/{digest}", cut_after=2_000_000))
        registry.faults.append(Fault(f"/blobs/{digest}", times=99, status=502))
        async with imaged(tmp_path) as service:
            with pytest.raises(RemoteError, match=r"download ended after \d+ of \d+ bytes") as broken:
                await service.pull(f"{registry.address}/x:1")
            # What was on its way when the connection was reset may be lost with it.
            found = re.search(r"after (\d+) of", str(broken.value))
            assert found is not None
            arrived = int(found[1])
            assert 0 < arrived <= 2_000_000
            assert list((await whole(service.stub.List(pb.ListRequest()))).images) == []
            registry.faults.clear()
            registry.requests.clear()
            await service.pull(f"{registry.address}/x:1")
            assert asked(registry, digest) == [Range(arrived, len(registry.blobs[digest]))]


@contextlib.asynccontextmanager
async def small_disk(root: Path, size: str) -> AsyncIterator[Path]:
    """Give imaged a data root of a size; yield a file on it that can take the room away."""
    mount = root / "data"
    mount.mkdir()
    await run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount))
    try:
        yield mount / "filler"
    finally:
        await asyncio.to_thread(unmount, mount)


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


def fill(filler: Path, free_bytes: int) -> None:
    """Leave so many bytes on the disk that ``filler`` is on."""
    disk = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_bsize - free_bytes))


@pytest.mark.root
async def test_disk_that_is_full_at_any_step_is_told_and_forgotten(tmp_path: Path) -> None:
    need_root()
    async with small_disk(tmp_path, "64m") as filler, FakeRegistry().running() as registry:
        registry.add_image("x", "1", os.urandom(6_000_000), os.urandom(500_000), b"small")
        async with imaged(tmp_path) as service:
            refused = 0
            for free_kb in (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 3000, 5000, 6000, 6400, 6600, 6800):
                fill(filler, free_kb << 10)
                failure = (await asyncio.gather(service.fetch(f"{registry.address}/x:1"), return_exceptions=True))[0]
                if isinstance(failure, BaseException):
                    assert isinstance(failure, ResourceExhaustedError)
                    assert "no space left on device" in str(failure)
                    refused += 1
                filler.unlink()
                assert list((await whole(service.stub.List(pb.ListRequest()))).images) == []
            assert refused >= 10
            await service.pull(f"{registry.address}/x:1")
            assert service.files("partials") == service.files("ingests") == set()


def large_image(registry: FakeRegistry, size: int) -> None:
    """Serve an image of one layer of zeros."""
    config = b'{"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": ["%b"]}}' % sha256(b"").encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": registry.add_blob(config, "application/vnd.docker.container.image.v1+json"),
        "layers": [registry.add_blob(bytes(size), DOCKER_LAYER_GZIP)],
    }
    registry.add_manifest("large", "1", manifest, DOCKER_MANIFEST)


async def test_memory_stays_flat_whatever_a_registry_sends(tmp_path: Path) -> None:
    async with FakeRegistry().running() as registry, imaged(tmp_path) as service:
        registry.add_manifest("x", "1", bytes(100_000_000), DOCKER_MANIFEST)
        with pytest.raises(RemoteError, match="manifest is 100000000 bytes"):
            await service.fetch(f"{registry.address}/x:1")
        # A document of the size that is allowed, as dear to parse as can be.
        registry.add_manifest("y", "1", b"[" + b"[]," * 1_390_000 + b"[]]", DOCKER_MANIFEST)
        with pytest.raises(RemoteError, match="has 2780002 values"):
            await service.fetch(f"{registry.address}/y:1")
        assert memory_mb(service, "VmRSS") < 100
        large_image(registry, 500_000_000)
        await service.fetch(f"{registry.address}/large:1")
        assert memory_mb(service, "VmRSS") < 100


def memory_mb(service: Imaged, what: str) -> int:
    return service.memory_kb(what) // 1024


async def test_memory_of_a_large_pull_is_that_of_a_small_one(tmp_path: Path) -> None:
    async with FakeRegistry().running() as registry, imaged(tmp_path) as service:
        large_image(registry, 500_000_000)
        await service.fetch(f"{registry.address}/large:1")
        assert memory_mb(service, "VmHWM") < 120


async def test_progress_is_read_over_http_while_a_pull_runs(tmp_path: Path) -> None:
    async with FakeRegistry().running() as registry, imaged(tmp_path) as service:
        registry.add_image("x", "1", os.urandom(3_000_000))
        registry.faults.append(Fault(f"/blobs/{registry.largest}", stall_after=1_500_000))
        call = service.stub.Fetch(pb.FetchRequest(reference=f"{registry.address}/x:1"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for step in call:
                if step.layer.digest == registry.largest and step.layer.offset > 1_000_000:
                    break
        text = await service.metrics()
        assert f'sampan_image_pull_progress_ratio{{image="{registry.address}/x:1"}} 0.' in text
        assert f'sampan_image_pull_left_seconds{{image="{registry.address}/x:1"}}' in text
        registry.resume.set()
        async for _ in call:
            pass
        async with asyncio.timeout(60):
            while registry.address in await service.metrics():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
