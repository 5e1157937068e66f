"""Fetching from a registry that behaves, and from one that does not."""

import asyncio
import errno
import json
import os
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from imaged.registry.endpoints import MirrorConfig, RegistryConfig
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    RemoteError,
    ResourceExhaustedError,
    UnimplementedError,
)
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS
from sampan.resource.transfer import Fetched, FetchPhase, FetchResolved, FetchStep
from tests.fakes.registry import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, FakeRegistry, Fault, sha256
from tests.unit.imaged.parts import Parts, imaged_parts

LAYER = os.urandom(300_000)


async def test_everything_of_an_image_arrives_and_is_held_by_the_lease(parts: Parts, registry: FakeRegistry) -> None:
    manifest = registry.add_image("a/b", "1", b"base" * 100, b"top" * 100)
    resolved, _, fetched = await parts.fetch(f"{registry.address}/a/b:1")
    assert [layer.diff_id for layer in resolved.layers] == [sha256(b"base" * 100), sha256(b"top" * 100)]
    assert fetched.target.digest == manifest["digest"]
    assert fetched.manifest == fetched.target
    assert parts.blobs() == {*registry.blobs, manifest["digest"]}
    await parts.leases.release(resolved.lease)
    assert parts.blobs() == set()


async def test_each_layer_waits_first_and_is_committed_last(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "latest", b"one" * 9, b"two" * 9)
    resolved, steps, _ = await parts.fetch(f"{registry.address}/x")
    assert [step.phase for step in steps[:2]] == [FetchPhase.WAITING, FetchPhase.WAITING]
    for layer in resolved.layers:
        phases = [step.phase for step in steps if step.digest == layer.descriptor.digest]
        assert phases[0] is FetchPhase.WAITING
        assert phases[-1] is FetchPhase.COMMITTED


async def test_what_is_here_already_is_not_downloaded_again(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"base", b"one")
    registry.add_image("x", "2", b"base", b"two")
    await parts.pull(f"{registry.address}/x:1")
    before = len(registry.paths("/blobs/"))
    _, steps, _ = await parts.fetch(f"{registry.address}/x:2")
    assert len(registry.paths("/blobs/")) == before + 2  # the config and one layer
    assert {step.phase for step in steps} >= {FetchPhase.EXISTED, FetchPhase.COMMITTED}


async def test_layer_that_occurs_twice_is_downloaded_once(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"same", b"same")
    resolved, _, _ = await parts.fetch(f"{registry.address}/x:1")
    assert len(resolved.layers) == 2
    assert len(registry.paths(resolved.layers[0].descriptor.digest)) == 1


async def test_pull_by_digest_needs_no_tag(parts: Parts, registry: FakeRegistry) -> None:
    digest = registry.add_image("x", "", b"layer")["digest"]
    _, _, fetched = await parts.fetch(f"{registry.address}/x@{digest}")
    assert fetched.target.digest == digest


async def test_manifest_that_is_not_what_its_digest_says_is_data_loss(parts: Parts, registry: FakeRegistry) -> None:
    digest = registry.add_image("x", "", b"layer")["digest"]
    registry.faults.append(Fault("/manifests/", replace=lambda data: data + b" "))
    with pytest.raises(DataLossError, match=f"verification failed for digest {digest}"):
        await parts.fetch(f"{registry.address}/x@{digest}")


@pytest.mark.parametrize("media_type", [DOCKER_LIST, OCI_INDEX])
async def test_index_leads_to_the_image_for_the_platform(parts: Parts, registry: FakeRegistry, media_type: str) -> None:
    amd = registry.add_image("x", "", b"amd") | {"platform": {"os": "linux", "architecture": "amd64"}}
    arm = registry.add_image("x", "", b"arm", architecture="arm64") | {
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}
    }
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": [amd, arm]}
    target = registry.add_manifest("x", "1", index, media_type)
    _, _, fetched = await parts.fetch(f"{registry.address}/x:1", Platform("linux", "arm64"))
    assert fetched.target.digest == target["digest"]
    assert fetched.manifest.digest == arm["digest"]
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x in the manifest list entries"):
        await parts.fetch(f"{registry.address}/x:1", Platform("linux", "s390x"))


async def test_indexes_that_never_end_are_refused(parts: Parts, registry: FakeRegistry) -> None:
    platform = {"platform": {"os": "linux", "architecture": "amd64"}}
    target = registry.add_image("x", "", b"layer")
    for tag in ("", "", "deep"):
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [target | platform]}
        target = registry.add_manifest("x", tag, index, OCI_INDEX)
    with pytest.raises(RemoteError, match="nested more than 2 deep"):
        await parts.fetch(f"{registry.address}/x:deep", Platform("linux", "amd64"))


async def test_single_image_for_another_platform_than_asked_for_is_refused(
    parts: Parts, registry: FakeRegistry
) -> None:
    registry.add_image("x", "1", b"layer", architecture="arm64")
    with pytest.raises(InvalidArgumentError, match="does not match the specified platform: wanted linux/amd64"):
        await parts.fetch(f"{registry.address}/x:1", Platform("linux", "amd64"))


async def test_single_image_for_another_platform_comes_to_who_takes_any(parts: Parts, registry: FakeRegistry) -> None:
    manifest = registry.add_image("x", "1", b"layer", architecture="arm64")
    _, _, fetched = await parts.fetch(f"{registry.address}/x:1", Platform("linux", "amd64"), any_single=True)
    assert fetched.target.digest == manifest["digest"]


async def test_index_without_the_platform_is_refused_to_who_takes_any_single_image(
    parts: Parts, registry: FakeRegistry
) -> None:
    arm = registry.add_image("x", "", b"arm", architecture="arm64")
    entry = arm | {"platform": {"os": "linux", "architecture": "arm64"}}
    registry.add_manifest("x", "1", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}, OCI_INDEX)
    with pytest.raises(NotFoundError, match="no matching manifest for linux/amd64"):
        await parts.fetch(f"{registry.address}/x:1", Platform("linux", "amd64"), any_single=True)
    await parts.fetch(f"{registry.address}/x@{arm['digest']}", Platform("linux", "amd64"), any_single=True)


async def test_image_for_another_operating_system_is_refused(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer", os="windows")
    with pytest.raises(UnimplementedError, match='operating system "windows"'):
        await parts.fetch(f"{registry.address}/x:1")


async def test_unknown_tag_is_not_found_in_dockers_words(parts: Parts, registry: FakeRegistry) -> None:
    name = f"{registry.address}/x"
    with pytest.raises(NotFoundError) as caught:
        await parts.fetch(f"{name}:nope")
    assert str(caught.value) == f"manifest for {name}:nope not found: manifest unknown: manifest unknown"


async def test_registry_that_is_down_is_named(parts: Parts) -> None:
    with pytest.raises(RemoteError, match=r'Get "http://localhost:1/v2/": dial tcp .*: connect: connection refused'):
        await parts.fetch("localhost:1/x")


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n", b""])
async def test_what_is_no_registry_is_told_in_one_line(parts: Parts, answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match=rf'^Get "http://127\.0\.0\.1:{port}/v2/": .+$') as caught:
            await parts.fetch(f"127.0.0.1:{port}/x")
    assert "\n" not in str(caught.value)


async def test_large_manifest_is_refused_and_its_size_named(parts: Parts, registry: FakeRegistry) -> None:
    document = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "pad": "x" * 5_000_000}).encode()
    registry.add_manifest("x", "1", document, DOCKER_MANIFEST)
    with pytest.raises(RemoteError, match=f"manifest is {len(document)} bytes, the most is 4194304"):
        await parts.fetch(f"{registry.address}/x:1")


async def test_manifest_served_as_another_type_than_it_says_is_refused(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    registry.faults.append(Fault("/manifests/", content_type="application/vnd.oci.image.manifest.v1+json"))
    with pytest.raises(RemoteError, match="served as"):
        await parts.fetch(f"{registry.address}/x:1")


async def test_corrupt_blob_is_data_loss_that_names_both_digests(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", times=9, replace=lambda data: b"\0" + data[1:]))
    wrong = sha256(b"\0" + registry.blobs[digest][1:])
    with pytest.raises(DataLossError, match=f"{digest}.*{wrong}"):
        await parts.fetch(f"{registry.address}/x:1")
    assert parts.blobs() == set()
    assert parts.leftovers() == []


@pytest.mark.parametrize("ignore_range", [False, True])
async def test_broken_download_goes_on_where_it_was(parts: Parts, registry: FakeRegistry, ignore_range: bool) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", cut_after=200_000))
    registry.faults.append(Fault(f"/blobs/{digest}", ignore_range=ignore_range))
    _, steps, _ = await parts.fetch(f"{registry.address}/x:1")
    ranges = [headers.get("Range") for _, path, headers in registry.requests if digest in path]
    assert ranges == [None, f"bytes=200000-{len(registry.blobs[digest]) - 1}"]
    assert FetchPhase.RETRYING in {step.phase for step in steps}
    assert digest in parts.blobs()


async def test_download_that_always_breaks_ends_with_blob_and_bytes(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", times=9, cut_after=1000, ignore_range=True))
    size = len(registry.blobs[digest])
    with pytest.raises(RemoteError, match=rf"blob {digest}: download ended after \d+ of {size} bytes"):
        await parts.fetch(f"{registry.address}/x:1")
    assert len(registry.paths(digest)) == 3
    assert digest not in parts.blobs()
    assert await parts.images.list() == []


async def test_blob_of_another_size_than_its_manifest_says_is_data_loss(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", replace=lambda data: data + b"more"))
    with pytest.raises(DataLossError, match="its manifest says"):
        await parts.fetch(f"{registry.address}/x:1")


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("status", [429, 503])
async def test_busy_registry_is_asked_again_after_what_it_asks_for(
    parts: Parts, registry: FakeRegistry, part: str, status: int
) -> None:
    registry.add_image("x", "1", b"layer")
    registry.faults.append(Fault(part, times=2, status=status, headers={"Retry-After": "0"}))
    _, _, fetched = await parts.fetch(f"{registry.address}/x:1")
    assert isinstance(fetched, Fetched)


async def test_registry_that_asks_for_too_much_patience_is_given_up(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    registry.faults.append(Fault("/manifests/", status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(RemoteError, match=r"toomanyrequests: .*\(try again in 86400 seconds\)"):
        await parts.fetch(f"{registry.address}/x:1")


async def test_stalled_download_is_broken_off_and_tried_again(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", stall_after=1000))
    async with imaged_parts(tmp_path / "imaged", stall_timeout_s=0.2) as parts:
        await parts.fetch(f"{registry.address}/x:1")
    assert len(registry.paths(digest)) == 2


async def test_full_disk_is_told_and_leaves_nothing(
    parts: Parts, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    real = os.pwrite

    def full(fd: int, data: memoryview, offset: int) -> int:
        if len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ResourceExhaustedError, match=f"{digest}: no space left on device"):
        await parts.fetch(f"{registry.address}/x:1")
    assert parts.blobs() == set()
    assert parts.leftovers() == []


async def test_fetch_that_is_left_early_shows_nothing_and_is_gone_after_a_day(
    parts: Parts, registry: FakeRegistry
) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", stall_after=1000))
    reference = parse_reference(f"{registry.address}/x:1")
    async with aclosing(parts.puller.fetch(reference, None, ANONYMOUS)) as steps:
        async for step in steps:
            if isinstance(step, FetchStep) and step.phase is FetchPhase.DOWNLOADING:
                break
    assert digest not in parts.blobs()
    assert await parts.images.list() == []
    assert parts.leftovers()
    parts.clock.ns = time.time_ns()  # files have the real time
    parts.clock.advance(24 * 3600 + 1)
    await parts.partials.recover()
    await parts.leases.recover()
    await parts.content.recover()
    assert parts.blobs() == set()
    assert parts.leftovers() == []


async def test_failed_fetch_keeps_what_others_use(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"base")
    await parts.pull(f"{registry.address}/x:1")
    before = parts.blobs()
    registry.add_image("x", "2", b"base", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", status=404))
    with pytest.raises(RemoteError, match=digest):
        await parts.fetch(f"{registry.address}/x:2")
    assert parts.blobs() == before


async def test_two_fetches_share_a_download_and_one_may_leave(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
    registry.faults.append(Fault(f"/blobs/{digest}", stall_after=1000))
    first = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
    second = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
    await registry.asked("/manifests/", 2)
    await registry.asked(digest)
    async with asyncio.timeout(60):
        while len(parts.downloads._shared[Digest(digest)].reports) < 2:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    registry.resume.set()
    await second
    assert len(registry.paths(digest)) == 1
    assert digest in parts.blobs()


async def test_shared_download_that_fails_is_tried_by_the_other_itself(parts: Parts, registry: FakeRegistry) -> None:
    async with FakeRegistry().running() as other:
        for one in (registry, other):
            one.add_image("x", "1", LAYER)
        digest = max(registry.blobs, key=lambda d: len(registry.blobs[d]))
        registry.faults.append(Fault(f"/blobs/{digest}", stall_after=1000, replace=lambda data: b"\0" + data[1:]))
        first = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
        await registry.asked(digest)
        second = asyncio.create_task(parts.fetch(f"{other.address}/x:1"))
        await other.asked("/manifests/")
        await asyncio.sleep(0.05)
        registry.resume.set()
        with pytest.raises(DataLossError):
            await first
        await second
        assert other.paths(digest)


async def test_mirror_is_asked_first_and_the_registry_if_it_cannot(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    async with FakeRegistry(auth="basic", users={"m": "secret"}).running() as mirror:
        mirrors = (MirrorConfig("http://127.0.0.1:1"), MirrorConfig(mirror.url, "m", "secret"))
        configured = [RegistryConfig(registry.address, mirrors=mirrors)]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            await parts.fetch(f"{registry.address}/x:1")
            assert mirror.paths("/manifests/")
            registry.requests.clear()
            mirror.add_image("x", "2", b"only here")
            await parts.fetch(f"{registry.address}/x:2")
            assert registry.requests == []


async def test_blob_that_a_mirror_has_lost_comes_from_the_registry(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    async with FakeRegistry().running() as mirror:
        mirror.add_image("x", "1", LAYER)
        digest = max(mirror.blobs, key=lambda d: len(mirror.blobs[d]))
        del mirror.blobs[digest]
        configured = [RegistryConfig(registry.address, mirrors=(MirrorConfig(mirror.url),))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            await parts.fetch(f"{registry.address}/x:1")
    assert registry.paths("/blobs/") == [f"/v2/x/blobs/{digest}"]


async def test_layers_and_diff_ids_must_be_as_many(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer", rootfs={"type": "layers", "diff_ids": []})
    with pytest.raises(RemoteError, match="has 0 diff IDs and its manifest 1 layers"):
        await parts.fetch(f"{registry.address}/x:1")


async def test_progress_of_a_layer_is_at_most_ten_a_second(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", os.urandom(30_000_000))
    begin = time.monotonic()
    _, steps, _ = await parts.fetch(f"{registry.address}/x:1")
    downloading = [step for step in steps if step.phase is FetchPhase.DOWNLOADING]
    assert len(downloading) <= (time.monotonic() - begin) * 10 + 1


async def test_metrics_count_pulls_by_outcome(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer")
    await parts.fetch(f"{registry.address}/x:1")
    with pytest.raises(NotFoundError):
        await parts.fetch(f"{registry.address}/x:2")
    sample = parts.metrics.get_sample_value
    assert sample("sampan_image_pulls_total", {"outcome": "fetched"}) == 1
    assert sample("sampan_image_pulls_total", {"outcome": "failed"}) == 1
    assert sample("sampan_image_pulls_in_flight") == 0
    size = sum(len(data) for data in registry.blobs.values())
    assert sample("sampan_image_pull_bytes_total", {"phase": "downloaded"}) == size


async def test_first_step_names_lease_and_whole_reference(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "latest", b"layer")
    resolved, _, _ = await parts.fetch(f"{registry.address}/x")
    assert isinstance(resolved, FetchResolved)
    assert str(resolved.reference) == f"{registry.address}/x:latest"
    assert resolved.lease
