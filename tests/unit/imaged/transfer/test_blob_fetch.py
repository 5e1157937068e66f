"""Blobs in parts over several connections, and from registries that break off, lie or are busy."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imaged.registry.endpoints import MirrorConfig, RegistryConfig
from imaged.transfer import blob_fetch
from sampan.errors import DataLossError, RemoteError
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS
from sampan.resource.transfer import FetchPhase, FetchStep
from tests.fakes.registry import FakeRegistry, Fault
from tests.unit.imaged.parts import Parts, imaged_parts

PART = 100_000
LAYER = os.urandom(1_000_000)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_fetch, "PART_BYTES", PART)
    monkeypatch.setattr(blob_fetch, "_WORTHWHILE_BYTES", PART // 2)


@pytest.fixture
def image(registry: FakeRegistry) -> str:
    """An image of one layer that is worth several connections."""
    registry.add_image("x", "1", LAYER)
    return f"{registry.address}/x:1"


def ranges(registry: FakeRegistry) -> list[str]:
    return [headers.get("Range", "") for _, path, headers in registry.requests if registry.largest in path]


async def test_large_blob_comes_over_several_connections_and_each_byte_once(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.piece_delay_s = 0.01
    await parts.fetch(image)
    assert registry.most_sending == 3
    assert len(ranges(registry)) == 11
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])
    assert parts.leftovers() == []


async def test_small_blob_comes_in_one_piece(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER[: PART - 1000])
    await parts.fetch(f"{registry.address}/x:1")
    assert ranges(registry) == [""]


async def test_registry_that_ignores_ranges_is_asked_once(parts: Parts, registry: FakeRegistry, image: str) -> None:
    registry.ignore_ranges = True
    await parts.fetch(image)
    assert len(ranges(registry)) == 1


async def test_registry_that_ignores_ranges_and_breaks_off_is_not_asked_for_ever(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.ignore_ranges = True
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=99, cut_after=900_000))
    with pytest.raises(RemoteError, match=r"download ended after \d+ of"):
        await parts.fetch(image)
    assert len(ranges(registry)) == 3


@pytest.mark.parametrize("answer", ["bytes 5-9/1000", "bytes 0-99999/*x", "pages 1-2/3", "bytes 0-999999999/*"])
async def test_wrong_answers_to_ranges_lead_to_one_piece(
    parts: Parts, registry: FakeRegistry, image: str, answer: str
) -> None:
    size = len(registry.blobs[registry.largest])
    registry.faults.append(Fault(f"/blobs/{registry.largest}", content_range=answer.replace("1000", str(size))))
    await parts.fetch(image)
    assert ranges(registry)[-1] == ""


async def test_range_of_a_blob_of_another_size_is_data_loss(parts: Parts, registry: FakeRegistry, image: str) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", content_range="bytes 0-90919/7"))
    with pytest.raises(DataLossError, match="has 7 bytes at the registry, its manifest says"):
        await parts.fetch(image)
    assert parts.leftovers() == []


async def test_ranges_that_cannot_be_satisfied_lead_to_one_piece(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", status=416))
    await parts.fetch(image)
    assert ranges(registry)[-1] == ""


async def test_blob_that_changes_between_ranges_is_fetched_once_more_in_one_piece(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", replace=lambda data: bytes(len(data))))
    await parts.fetch(image)
    assert ranges(registry).count("") == 1
    assert registry.largest in parts.blobs()


async def test_blob_that_stays_wrong_is_data_loss_and_nothing_is_kept(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=99, replace=lambda data: bytes(len(data))))
    with pytest.raises(DataLossError, match=registry.largest):
        await parts.fetch(image)
    assert ranges(registry).count("") == 1
    assert parts.leftovers() == []
    assert parts.blobs() == set()


async def test_image_that_is_refused_for_one_layer_leaves_nothing_of_the_others(
    parts: Parts, registry: FakeRegistry
) -> None:
    registry.add_image("x", "1", os.urandom(50_000), LAYER)
    (wrong,) = (digest for digest, data in registry.blobs.items() if 50_000 <= len(data) < 60_000)
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=99, stall_after=PART // 2))
    registry.faults.append(Fault(f"/blobs/{wrong}", replace=lambda data: bytes(len(data)), stall_after=1))
    running = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
    await registry.asked(wrong)
    async with asyncio.timeout(60):
        while len(parts.leftovers()) != 4:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
    registry.resume.set()
    with pytest.raises(DataLossError, match=wrong):
        await running
    assert parts.leftovers() == []
    assert parts.blobs() == set()


@pytest.mark.parametrize("percent", [1, 50, 99])
async def test_connection_that_breaks_costs_only_a_request(
    parts: Parts, registry: FakeRegistry, image: str, percent: int
) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=4, cut_after=PART * 9 // 10 * percent // 100))
    await parts.fetch(image)
    assert (parts.metrics.get_sample_value("sampan_image_pull_retries_total") or 0) >= 2
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


async def test_further_connection_that_is_refused_is_done_without(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.piece_delay_s = 0.01
    registry.most_allowed = 1
    await parts.fetch(image)
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


async def test_registry_that_is_busy_for_ever_is_given_up_and_what_came_is_kept(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    digest = registry.largest
    registry.faults.append(Fault(f"/blobs/{digest}", cut_after=PART // 2))
    registry.faults.append(Fault(f"/blobs/{digest}", times=99, status=503, body=b"<html>busy"))
    with pytest.raises(RemoteError, match=rf"{digest}: download ended after \d+ of \d+ bytes: .*status code 503"):
        await parts.fetch(image)
    assert len(ranges(registry)) <= 5
    registry.faults.clear()
    before = registry.served[digest]
    await parts.fetch(image)
    assert registry.served[digest] - before == len(registry.blobs[digest]) - before


async def test_what_is_here_is_written_and_told_when_a_line_stalls(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER[: PART - 1000])
    registry.faults.append(Fault(f"/blobs/{registry.largest}", stall_after=PART // 2))
    told = asyncio.Event()
    steps = []

    async def pull() -> None:
        async for step in parts.puller.fetch(parse_reference(f"{registry.address}/x:1"), None, ANONYMOUS):
            if isinstance(step, FetchStep) and step.phase is FetchPhase.DOWNLOADING and step.offset:
                steps.append(step.offset)
                told.set()

    running = asyncio.create_task(pull())
    async with asyncio.timeout(60):
        await told.wait()
    assert len(ranges(registry)) == 1  # nobody has given the line up
    journal = (parts.root / "partials" / f"{registry.largest.removeprefix('sha256:')}.ranges").read_text()
    assert journal.split()[-1] == str(steps[-1])
    registry.resume.set()
    await running
    assert steps[0] == PART // 2


async def test_trickle_is_broken_off(tmp_path: Path, registry: FakeRegistry, image: str) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=99, drip_s=0.05))
    begin = time.monotonic()
    async with imaged_parts(tmp_path / "imaged", stall_timeout_s=0.2) as parts:
        with pytest.raises(RemoteError, match=r"too slow: \d+ bytes came in"):
            await parts.fetch(image)
    assert time.monotonic() - begin < 60  # at that pace it would take hours


@pytest.mark.parametrize("part", ["/manifests/", "/v2/"])
async def test_document_that_trickles_in_is_broken_off(
    tmp_path: Path, registry: FakeRegistry, image: str, part: str
) -> None:
    registry.faults.append(Fault(part, times=99, drip_s=0.05))
    async with imaged_parts(tmp_path / "imaged", stall_timeout_s=0.2) as parts:
        with pytest.raises(RemoteError, match="too slow"):
            await parts.fetch(image)


async def test_what_a_killed_process_brought_is_not_fetched_again(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", LAYER)
    digest, size = registry.largest, len(registry.blobs[registry.largest])
    registry.faults += [
        Fault(f"/blobs/{digest}", stall_after=PART // 2),
        Fault(f"/blobs/{digest}", times=9, status=503),
    ]
    async with imaged_parts(tmp_path / "imaged") as parts:
        running = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
        await registry.asked(digest, 2)
        journal = parts.root / "partials" / f"{digest.removeprefix('sha256:')}.ranges"
        async with asyncio.timeout(60):  # until what was sent has come
            while not (journal.exists() and journal.read_text().endswith(f" {PART // 2}\n")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
    registry.faults.clear()
    before = registry.served[digest]
    assert before > 0
    async with imaged_parts(tmp_path / "imaged") as parts:
        await parts.fetch(f"{registry.address}/x:1")
        assert registry.served[digest] == size
        assert parts.leftovers() == []


async def test_damaged_rest_of_an_earlier_process_is_fetched_again_whole(
    tmp_path: Path, registry: FakeRegistry, image: str
) -> None:
    digest = registry.largest
    directory = tmp_path / "imaged/partials"
    async with imaged_parts(tmp_path / "imaged") as parts:
        (directory / digest[7:]).write_bytes(bytes(500_000))
        (directory / f"{digest[7:]}.ranges").write_text(
            "0 300000\n600000 700000\nx y\n-1 5\n300000 400000\n450000 4600"
        )
        await parts.fetch(image)
        assert digest in parts.blobs()
    assert ranges(registry)[-1] == ""
    assert ranges(registry)[0].startswith("bytes=400000-")


async def test_whole_rest_of_an_earlier_process_needs_no_request(
    tmp_path: Path, registry: FakeRegistry, image: str
) -> None:
    digest = registry.largest
    async with imaged_parts(tmp_path / "imaged") as parts:
        (tmp_path / "imaged/partials" / digest[7:]).write_bytes(registry.blobs[digest])
        (tmp_path / f"imaged/partials/{digest[7:]}.ranges").write_text(f"0 {len(registry.blobs[digest])}\n")
        await parts.fetch(image)
    assert ranges(registry) == []


async def test_full_disk_takes_what_nobody_came_back_for_first(
    parts: Parts, registry: FakeRegistry, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = parts.root / "partials" / ("0" * 64)
    stray.write_bytes(b"old")
    stray.with_name(stray.name + ".ranges").write_text("0 3\n")
    real = os.pwrite

    def full(fd: int, data: memoryview, offset: int) -> int:
        if stray.exists():
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    await parts.fetch(image)
    assert parts.leftovers() == []


@pytest.mark.parametrize(("slots", "most"), [((16, 2), 2), ((1, 8), 1)])
async def test_no_more_connections_than_allowed(
    tmp_path: Path, registry: FakeRegistry, slots: tuple[int, int], most: int
) -> None:
    registry.piece_delay_s = 0.005
    registry.add_image("x", "1", *(os.urandom(300_000) for _ in range(4)))
    async with imaged_parts(tmp_path / "imaged", slots=slots) as parts:
        await parts.fetch(f"{registry.address}/x:1")
    assert registry.most_sending == most


async def test_registry_may_be_given_a_limit_of_its_own(tmp_path: Path, registry: FakeRegistry, image: str) -> None:
    registry.piece_delay_s = 0.005
    configured = [RegistryConfig(registry.address, max_connections=1)]
    async with imaged_parts(tmp_path / "imaged", configured) as parts:
        await parts.fetch(image)
    assert registry.most_sending == 1


async def test_ten_clients_share_one_download(parts: Parts, registry: FakeRegistry, image: str) -> None:
    registry.piece_delay_s = 0.01
    await asyncio.gather(*(parts.fetch(image) for _ in range(10)))
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


async def test_same_layer_of_two_images_is_downloaded_once(parts: Parts, registry: FakeRegistry) -> None:
    registry.piece_delay_s = 0.01
    for name in ("x", "y"):
        registry.add_image(name, "1", LAYER, name.encode())
    await asyncio.gather(*(parts.fetch(f"{registry.address}/{name}:1") for name in ("x", "y")))
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


async def test_one_of_two_clients_leaves_and_the_other_gets_every_byte_once(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.piece_delay_s = 0.02
    first, second = (asyncio.create_task(parts.fetch(image)) for _ in range(2))
    await registry.asked(registry.largest, 4)
    first.cancel()
    await second
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 13])
async def test_client_that_comes_while_the_last_one_leaves_gets_the_blob(
    parts: Parts, registry: FakeRegistry, image: str, ticks: int
) -> None:
    registry.piece_delay_s = 0.02
    (source,) = parts.sources.of(parse_reference(image), ANONYMOUS)
    await source.connect()
    blob = Descriptor(OCI_LAYER, Digest(registry.largest), len(registry.blobs[registry.largest]))

    def fetch() -> asyncio.Task[None]:
        return asyncio.create_task(parts.downloads.fetch(blob, source.clients, lambda _: None))

    first = fetch()
    if ticks != 1:  # with 1 it is cancelled before it began
        await registry.asked(registry.largest)
    else:
        await asyncio.sleep(0)
    first.cancel()
    for _ in range(ticks):
        await asyncio.sleep(0)
    await fetch()
    assert first.cancelled()
    assert registry.largest in parts.blobs()
    assert parts.leftovers() == []


async def test_clients_that_wait_for_a_registry_that_is_busy_for_ever_are_told_at_once(
    parts: Parts, registry: FakeRegistry, image: str
) -> None:
    registry.faults.append(Fault(f"/blobs/{registry.largest}", times=99, status=503))
    fetches = [asyncio.create_task(parts.fetch(image)) for _ in range(5)]
    await asyncio.wait(fetches)
    assert all(isinstance(fetch.exception(), RemoteError) for fetch in fetches)
    assert len(ranges(registry)) <= 6


async def test_token_that_expires_in_the_middle_is_asked_for_once_more(parts: Parts) -> None:
    async with FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", LAYER)
        registry.piece_delay_s = 0.02
        running = asyncio.create_task(parts.fetch(f"{registry.address}/x:1"))
        await registry.asked(registry.largest)
        registry.good_tokens = {"another"}
        registry.token_answer = {"token": "another"}
        await running
        assert registry.tokens_given == 2


@pytest.mark.parametrize("wrong", [lambda data: bytes(len(data)), lambda data: data[:-1]])
async def test_mirror_that_serves_wrong_bytes_is_passed_over(
    tmp_path: Path, registry: FakeRegistry, image: str, wrong: Callable[[bytes], bytes]
) -> None:
    async with FakeRegistry().running() as mirror:
        mirror.add_image("x", "1", LAYER)
        mirror.faults.append(Fault(f"/blobs/{mirror.largest}", times=99, replace=wrong))
        configured = [RegistryConfig(registry.address, mirrors=(MirrorConfig(mirror.url),))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            await parts.fetch(image)
            assert registry.largest in parts.blobs()
    assert registry.served[registry.largest] == len(registry.blobs[registry.largest])


async def test_mirror_that_breaks_off_half_way_is_gone_on_from_at_the_registry(
    tmp_path: Path, registry: FakeRegistry, image: str
) -> None:
    async with FakeRegistry().running() as mirror:
        mirror.add_image("x", "1", LAYER)
        mirror.faults.append(Fault(f"/blobs/{mirror.largest}", cut_after=PART // 2))
        mirror.faults.append(Fault(f"/blobs/{mirror.largest}", times=99, status=502))
        configured = [RegistryConfig(registry.address, mirrors=(MirrorConfig(mirror.url),))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            await parts.fetch(image)
        both = mirror.served[mirror.largest] + registry.served[registry.largest]
    assert both == len(registry.blobs[registry.largest])
