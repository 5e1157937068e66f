"""The snapshotter as a process: what a kill in the middle leaves, and what a start makes of it."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sampan.api.containerd.content.v1 import content_pb2 as content_pb
from sampan.api.containerd.content.v1 import content_pb2_grpc as content_grpc
from sampan.client.storage.snapshots import DifferClient, LayersClient, SnapshotsClient
from sampan.errors import DataLossError, NotFoundError, ResourceExhaustedError, UnavailableError
from sampan.oci.descriptor import OCI_LAYER, OCI_LAYER_ZSTD, Descriptor
from sampan.oci.digest import Digest
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.sys.mounts import mount
from sampan.wire.channel import open_channel
from snapshotter.snapshots.directories import Disk
from tests.fakes.content import FakeContent, FakeContentServicer
from tests.support.snapshotter import Clock, Kit, Parts, finished, local, names, shown, tar
from tests.support.tools import eventually, unmount

pytestmark = pytest.mark.root


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sn", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def content(base: Path) -> AsyncIterator[FakeContent]:
    (base / "r").mkdir()
    content = FakeContent()
    server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
    content_grpc.add_ContentServicer_to_server(FakeContentServicer(content), server)  # type: ignore[abstract]  # methods that nobody calls
    server.add_insecure_port(f"unix:{base}/r/imaged.sock")
    await server.start()
    yield content
    await server.stop(0)


@asynccontextmanager
async def running(
    base: Path, content: FakeContent, *flags: str, program: Sequence[str] = ("-m", "snapshotter")
) -> AsyncIterator[tuple[Parts, subprocess.Popen[bytes]]]:
    arguments = ["--data-root", f"{base}/d", "--run-root", f"{base}/r", *flags]
    process = subprocess.Popen([sys.executable, *program, *arguments])  # into a pipe it would log until that is full
    try:
        async with open_channel(base / "r" / "snapshotter.sock") as channel:
            async with asyncio.timeout(60):
                await channel.channel_ready()
            disk = Disk(base / "d" / "snapshotter", base / "r" / "l")
            yield (
                Parts(SnapshotsClient(channel), LayersClient(channel), DifferClient(channel), content, disk),
                process,
            )
    finally:
        process.terminate()
        process.wait(60)


async def test_a_kill_in_the_middle_of_apply_leaves_a_consistent_store(base: Path, content: FakeContent) -> None:
    (base / "d").mkdir()
    layer = tar(**{f"d{number}": None for number in range(500)}, big=os.urandom(4 << 20))
    descriptor = Descriptor(OCI_LAYER, content.add(layer), len(layer))
    diff_id = Digest.of(layer)
    async with running(base, content) as (parts, process):
        kit = Kit(parts)
        chain = await kit.image(tar(a="1"))
        with shown(await parts.snapshots.prepare("web", chain, {"l": "1"})) as root:
            (root / "mine").write_text("kept")

        async def kill(offset: int) -> None:
            if offset == 3 << 20:
                process.send_signal(signal.SIGKILL)

        content.before_piece = kill  # type: ignore[method-assign]
        with pytest.raises(UnavailableError):
            await finished(parts.layers.apply(descriptor, diff_id))
        process.wait()
    assert list((base / "d/snapshotter/tmp").iterdir())
    content.before_piece = FakeContent().before_piece  # type: ignore[method-assign]
    async with running(base, content) as (parts, _):
        await parts.snapshots.cleanup()
        for directory, count in (("tmp", 0), ("trash", 0), ("l", 1), ("s", 1)):
            assert len(list((base / "d/snapshotter" / directory).iterdir())) == count
        with shown(await parts.snapshots.mounts("web")) as root:
            assert names(root) == ["a", "mine"]
        with pytest.raises(NotFoundError):
            await parts.layers.stack([diff_id])
        assert (await finished(parts.layers.apply(descriptor, diff_id))).done
        both = await parts.layers.stack([Digest.of(tar(a="1")), diff_id])
        with shown(await parts.snapshots.prepare("new", both, {})) as root:
            assert len(names(root)) == 502


@pytest.mark.parametrize(("driver", "short"), [("erofs", "r/m/"), ("overlayfs", "r/l/l/")])
async def test_128_layers_mount_by_their_short_names(base: Path, content: FakeContent, driver: str, short: str) -> None:
    data = base / ("d" * 40)
    data.mkdir()
    async with running(base, content, "--data-root", str(data), "--driver", driver) as (parts, _):
        kit = Kit(parts)
        layers = [tar(**{f"f{number}": "1", "last": str(number)}) for number in range(128)]
        diff_ids = await asyncio.gather(*map(kit.apply, layers))
        chain = await parts.layers.stack(diff_ids)
        mounts = await parts.snapshots.prepare("web", chain, {})
        assert f"{base}/{short}" in mounts[0].options[3]
        with shown(mounts) as root:
            assert len(names(root)) == 129
            assert (root / "last").read_text() == "127"
            (root / "new").touch()
        assert [change.path for change in await parts.layers.changes("web")] == [b"new"]
        packed = await parts.differ.diff(await parts.snapshots.view("v", chain, {}), mounts, OCI_LAYER, "r", {})
        assert packed.size > 0


def _get(url: str) -> str:
    with urllib.request.urlopen(url) as response:
        return str(response.read(), "utf-8")


async def test_metrics_tell_of_layers_and_snapshots(base: Path, content: FakeContent) -> None:
    (base / "d").mkdir()
    async with running(base, content) as (parts, _):
        chain = await Kit(parts).image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        address = json.loads((base / "r/snapshotter.json").read_text())["metrics"]
        last = 'sampan_layer_applies_total{driver="erofs",outcome="applied"} 1.0'
        # What a client has the answer of is counted a moment later.
        await asyncio.to_thread(eventually, lambda: last in _get(f"http://{address}/metrics"), "it is counted")
        text = await asyncio.to_thread(_get, f"http://{address}/metrics")
    for line in (
        'sampan_layer_apply_seconds_count{driver="erofs",phase="unpack"} 1.0',
        'sampan_layer_apply_bytes_total{driver="erofs",phase="unpacked"} 10240.0',
        'sampan_layer_applies_total{driver="erofs",outcome="applied"} 1.0',
        'sampan_snapshots{kind="active"} 1.0',
        'sampan_snapshots{kind="committed"} 1.0',
        "sampan_layer_worker_failures_total 0.0",
        'sampan_layer_image_mounts_total{outcome="mounted"} 1.0',
    ):
        assert line in text


async def test_metrics_tell_how_far_layers_are(base: Path, content: FakeContent) -> None:
    (base / "d").mkdir()
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stall(offset: int) -> None:
        if offset >= 4 << 20:
            reached.set()
            await go_on.wait()

    async with running(base, content) as (parts, _):
        address = json.loads((base / "r/snapshotter.json").read_text())["metrics"]

        async def value(series: str) -> float:
            text = await asyncio.to_thread(_get, f"http://{address}/metrics")
            (line,) = (line for line in text.splitlines() if line.startswith(f'{series}{{driver="erofs"}} '))
            return float(line.split()[1])

        assert await value("sampan_layer_applies_in_flight") == 0
        assert math.isnan(await value("sampan_layer_apply_progress_ratio"))
        content.before_piece = stall  # type: ignore[method-assign]
        descriptor, diff_id = Kit(parts).blob(tar(a=os.urandom(8 << 20)))
        steps = parts.layers.apply(descriptor, diff_id)
        async for progress in steps:
            if progress.read_bytes:
                break
        await reached.wait()
        assert await value("sampan_layer_applies_in_flight") == 1
        assert 0 < await value("sampan_layer_apply_progress_ratio") < 1
        go_on.set()
        assert (await finished(steps)).done
        async with asyncio.timeout(60):
            while await value("sampan_layer_applies_in_flight"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await value("sampan_layer_apply_bytes_per_second") > 0


async def test_an_unknown_driver_is_named(base: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snapshotter", "--data-root", f"{base}/d", "--run-root", f"{base}/r", "--driver", "zfs",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"driver 'zfs' is unknown: known are auto, erofs, overlayfs, native" in output


@pytest.mark.parametrize("driver", ["erofs", "overlayfs", "native"])
async def test_a_layer_is_held_until_its_time_even_over_a_restart(tmp_path: Path, driver: str) -> None:
    clock, content = Clock(), FakeContent()
    async with local(tmp_path / "root", driver, content, clock) as parts:
        diff_id = await Kit(parts).apply(tar(a="1"))
        await parts.snapshots.cleanup()
    clock.now_ns += 3500 * 10**9
    async with local(tmp_path / "root", driver, content, clock) as parts:
        assert len(list(parts.disk.layers.iterdir())) == 1
        clock.now_ns += 200 * 10**9
        await parts.snapshots.cleanup()
        assert list(parts.disk.layers.iterdir()) == []
        with pytest.raises(NotFoundError):
            await parts.layers.stack([diff_id])


async def test_two_pulls_of_one_layer_each_hold_it(tmp_path: Path) -> None:
    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        kit = Kit(parts)
        first = await kit.apply(tar(a="1"))
        assert await kit.apply(tar(a="1")) == first
        chain = await parts.layers.stack([first])
        await parts.layers.unstack([[chain]])
        await parts.snapshots.cleanup()
        await parts.layers.stack([first])
        await parts.layers.unstack([[chain]])
        await parts.snapshots.cleanup()
        assert list(parts.disk.layers.iterdir()) == []


async def test_a_start_discards_what_no_row_knows(tmp_path: Path) -> None:
    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
    for stray in ("l/77", "s/78/fs", "tmp/x/y", "trash/z/deep"):
        (tmp_path / "root" / stray).mkdir(parents=True)
    merged = tmp_path / "root" / "probe-killed" / "merged"
    merged.mkdir(parents=True)
    mount("tmpfs", str(merged), "tmpfs")
    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        await parts.snapshots.cleanup()
        counts = {name: len(list((tmp_path / "root" / name).iterdir())) for name in ("l", "s", "tmp", "trash")}
        assert counts == {"l": 1, "s": 1, "tmp": 0, "trash": 0}
        assert not merged.parent.exists()


async def test_a_layer_that_vanished_from_disk_is_applied_again(tmp_path: Path) -> None:
    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        kit = Kit(parts)
        chain = await kit.image(tar(a="1"))
        (directory,) = parts.disk.layers.iterdir()
        directory.rename(tmp_path / "gone")
        with pytest.raises(DataLossError, match="has vanished"):
            await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(NotFoundError, match="apply it first"):
            await parts.layers.stack([Digest.of(tar(a="1"))])
        await kit.image(tar(a="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["a"]


# Does not wait long for a content store that never comes back.
IMPATIENT = ("-c", "import sampan.services as s; s.RESTART_S = 2.0; from snapshotter.main import main; main()")


async def test_layers_go_to_the_real_content_store_and_come_from_it(base: Path) -> None:
    roots = ["--data-root", f"{base}/d", "--run-root", f"{base}/r", "--log-level", "error"]
    imaged = subprocess.Popen([sys.executable, "-m", "imaged", *roots])
    try:
        async with (
            running(base, FakeContent(), program=IMPATIENT) as (parts, _),
            open_channel(base / "r" / "imaged.sock") as channel,
        ):
            async with asyncio.timeout(60):
                await channel.channel_ready()
            stub: content_grpc.ContentAsyncStub = content_grpc.ContentStub(channel)
            with shown(await parts.snapshots.prepare("web", None, {})) as root:
                (root / "big").write_bytes(os.urandom(3 << 20))
                facts = (root / "big").read_bytes()
            mounts = await parts.snapshots.mounts("web")
            for _ in range(2):  # the second time the store has it already
                descriptor = await parts.differ.diff((), mounts, OCI_LAYER_ZSTD, "ref", {"containerd.io/gc.root": "x"})
            info = (await stub.Info(content_pb.InfoRequest(digest=descriptor.digest))).info
            diff_id = Digest.parse(info.labels["containerd.io/uncompressed"])
            assert (await finished(parts.layers.apply(descriptor, diff_id))).done
            with shown(await parts.snapshots.view("copy", await parts.layers.stack([diff_id]), {})) as root:
                assert (root / "big").read_bytes() == facts
            missing = Descriptor(OCI_LAYER, Digest.of(b"missing"), 7)
            with pytest.raises(NotFoundError, match=missing.digest):
                await finished(parts.layers.apply(missing, Digest.of(b"x")))
            imaged.terminate()
            imaged.wait()
            with pytest.raises(UnavailableError, match=r"imaged,? does not answer"):
                await finished(parts.layers.apply(missing, Digest.of(b"x")))
    finally:
        imaged.terminate()
        imaged.wait()


@pytest.mark.parametrize("driver", ["erofs", "overlayfs", "native"])
async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, driver: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    mount("tmpfs", str(root), "tmpfs", data="size=8m,mode=755")
    try:
        async with local(root, driver, FakeContent()) as parts:
            kit = Kit(parts)
            chain = await kit.image(tar(a="1", half=os.urandom(3 << 20)))
            with pytest.raises(ResourceExhaustedError, match="entry 'big': No space left"):
                await kit.apply(tar(small="1", big=os.urandom(6 << 20)))
            await parts.snapshots.cleanup()
            assert list((root / "tmp").iterdir()) == list((root / "trash").iterdir()) == []
            assert len(list(parts.disk.layers.iterdir())) == 1
            if driver == "native":
                await parts.snapshots.prepare("one", chain, {})
                with pytest.raises(ResourceExhaustedError, match="snapshot 'two' cannot be stored: no space left"):
                    await parts.snapshots.prepare("two", chain, {})
                await parts.snapshots.cleanup()
                assert [one.key for one in await parts.snapshots.list(["kind==active"])] == ["one"]
                assert len(list(parts.disk.snapshots.iterdir())) == 1
    finally:
        unmount(root)


async def test_what_one_driver_made_another_goes_on_with(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with local(root, "overlayfs", FakeContent()) as parts:
        chain = await Kit(parts).image(tar(a="1", d=None, d__x="1"))
        await parts.snapshots.prepare("running", chain, {})
        with shown(await parts.snapshots.prepare("build", chain, {})) as tree:
            (tree / "a").unlink()
            (tree / "b").touch()
        await parts.snapshots.commit("by overlayfs", "build", {})
    async with local(root, "native", FakeContent()) as parts:
        with shown(await parts.snapshots.mounts("running")) as tree:
            (tree / "e").touch()
            assert names(tree) == ["a", "d", "d/x", "e"]
        with shown(await parts.snapshots.prepare("build", "by overlayfs", {})) as tree:
            assert names(tree) == ["b", "d", "d/x"]
            (tree / "d" / "x").unlink()
        assert [change.path for change in await parts.layers.changes("build")] == [b"d", b"d/x"]
        await parts.snapshots.commit("by native", "build", {})
    async with local(root, "overlayfs", FakeContent()) as parts:
        with shown(await parts.snapshots.prepare("last", "by native", {})) as tree:
            assert names(tree) == ["b", "d"]
            (tree / "c").touch()
        assert [change.path for change in await parts.layers.changes("last")] == [b"c"]
        await parts.snapshots.remove("last")
        with shown(await parts.snapshots.view("look", "by native", {})) as tree:
            assert names(tree) == ["b", "d"]
