"""Freezing, while processes are killed, disks are full, and garbage is collected."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.check import Finding
from sampan.disk import HOLD, LEASE
from sampan.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from sampan.oci.digest import Digest
from sampan.resource.snapshot import TRANSIENT_LABEL, NewLayer
from sampan.sys.measuring import measure
from snapshotter.check.check import LayersCheck
from snapshotter.check.repair import Repairer
from snapshotter.diff import settle as settling
from snapshotter.diff.settle import Told, settle
from snapshotter.gc.collector import LayerCollector
from snapshotter.gc.usage import LayerUsage
from snapshotter.layers.layers import LocalLayers
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Disk, Syncer
from tests.contract.freezing import EXCLUDED, LOWER, facts, meddle
from tests.fakes.content import FakeContent
from tests.fakes.crashes import KilledError, Steps
from tests.integration.snapshotter.test_layer_collection import Images
from tests.support.small_disk import small_disk
from tests.support.snapshotter import Kit, Parts, local, shown, tar, workers
from tests.support.tools import eventually

pytestmark = pytest.mark.root


@pytest.fixture(params=["erofs", "overlayfs", "native"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def step(parts: Parts, key: str = "step") -> Digest:
    """Make a snapshot that is changed in all ways; return its parent's diff ID."""
    base = await Kit(parts).apply(tar(**LOWER))
    with shown(await parts.snapshots.prepare(key, await parts.layers.stack([base]), {TRANSIENT_LABEL: "1"})) as root:
        meddle(root)
    return base


def catalog_of(parts: Parts) -> Catalog:
    assert isinstance(parts.layers, LocalLayers)
    return parts.layers._catalog


async def findings(parts: Parts) -> list[Finding]:
    """Return what a check finds."""
    assert isinstance(parts.layers, LocalLayers)
    catalog = catalog_of(parts)
    check = LayersCheck(catalog, catalog._erofs, Repairer(catalog, catalog._erofs, parts.layers._applier, {}))
    return [found async for found in check.check(quick=False) if isinstance(found, Finding)]


async def shows(parts: Parts, base: Digest, layer: NewLayer | None) -> dict[str, tuple[object, ...]]:
    assert layer is not None
    with shown(await parts.snapshots.view("look", await parts.layers.stack([base, layer.diff_id]), {})) as root:
        found = facts(root)
    await parts.snapshots.remove("look")
    return found


def killing(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    """Have what freezing does to the world counted."""

    def wrap(kind: type, name: str) -> None:
        inner: Callable[..., Any] = getattr(kind, name)

        async def waiting(self: object, *args: object, **kwargs: object) -> object:
            steps.step(f"before {name}")
            result = await inner(self, *args, **kwargs)
            steps.step(f"after {name}")
            return result

        def at_once(self: object, *args: object, **kwargs: object) -> object:
            steps.step(f"before {name}")
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, waiting if asyncio.iscoroutinefunction(inner) else at_once)

    for kind, name in (
        (FakeContent, "take"), (FakeContent, "commit"), (Catalog, "write"), (Syncer, "sync"), (Disk, "discard"),
        (Disk, "move_to_layers"),
    ):  # fmt: skip
        wrap(kind, name)


@pytest.mark.parametrize("defer_bytes", [0, 1])
@pytest.mark.parametrize("kill_before", range(10))
async def test_killed_at_any_step_the_same_call_gives_the_same_layer(
    tmp_path: Path, driver: str, kill_before: int, defer_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, content, steps = tmp_path / "root", FakeContent(), Steps()
    async with local(root, driver, content) as parts:
        base = await step(parts)
        killing(monkeypatch, steps)
        steps.arm(kill_before, lambda: None)
        before: NewLayer | None = None
        try:
            before = await parts.differ.freeze("step", EXCLUDED, defer_bytes=defer_bytes)
        except KilledError:
            steps.kill()
        monkeypatch.undo()
    async with local(root, driver, content) as parts:
        again = await parts.differ.freeze("step", EXCLUDED, defer_bytes=defer_bytes)
        assert before in (None, again)
        found = await shows(parts, base, again)
        assert "new/file" in found
        assert "proc" not in found
        assert await findings(parts) == []
        assert len(list(parts.disk.layers.iterdir())) == 2
        assert list(parts.disk.snapshots.iterdir()) == []


async def test_a_worker_that_is_killed_leaves_the_snapshot_to_be_frozen_again(tmp_path: Path, driver: str) -> None:
    class Content(FakeContent):
        async def take(self, pipe: int, ref: str, *, read_soon: bool) -> None:
            await asyncio.to_thread(eventually, lambda: bool(workers()), "a worker is at work")
            (pid,) = workers()
            os.kill(pid, 9)
            await super().take(pipe, ref, read_soon=read_soon)

    async with local(tmp_path / "root", driver, Content()) as parts:
        base = await step(parts)
        with shown(await parts.snapshots.mounts("step")) as root:
            (root / "big").write_bytes(os.urandom(8 << 20))
        with pytest.raises(UnavailableError, match="the process working on it"):
            await parts.differ.freeze("step", EXCLUDED)
        assert parts.content.taken == {}
        Content.take = FakeContent.take  # type: ignore[method-assign]
        assert "big" in await shows(parts, base, await parts.differ.freeze("step", EXCLUDED))


async def test_a_call_that_is_cancelled_leaves_a_snapshot_or_a_layer(tmp_path: Path, driver: str) -> None:
    async with local(tmp_path / "root", driver, FakeContent()) as parts:
        base = await step(parts)
        for turns in range(0, 60, 3):
            task = asyncio.create_task(parts.differ.freeze("step", EXCLUDED))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: workers() == [], "no worker is left")
        assert "new/file" in await shows(parts, base, await parts.differ.freeze("step", EXCLUDED))
        assert await findings(parts) == []


@pytest.mark.parametrize("late", ["sync", "commit"])
async def test_a_layer_is_known_when_its_blob_and_its_files_are_on_disk(
    tmp_path: Path, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"sync": asyncio.Event(), "commit": asyncio.Event()}
    go_on = {"sync": asyncio.Event(), "commit": asyncio.Event()}

    def slow(kind: type, name: str) -> None:
        inner: Callable[..., Any] = getattr(kind, name)

        async def waiting(self: object, *args: object, **kwargs: object) -> object:
            begun[name].set()
            await go_on[name].wait()
            return await inner(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, waiting)

    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        base = await step(parts)
        with shown(await parts.snapshots.mounts("step")) as root:
            for number in range(100):  # more than are synced one by one
                (root / f"new/{number}").write_text("")
        slow(Syncer, "sync")
        slow(FakeContent, "commit")
        freezing = asyncio.create_task(parts.differ.freeze("step", EXCLUDED))
        async with asyncio.timeout(60):
            for event in begun.values():  # neither waits for the other
                await event.wait()
        for name in begun.keys() - {late}:
            go_on[name].set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(freezing), 0.2)
        assert (await parts.snapshots.stat("step")).key == "step"
        assert len(list(parts.disk.layers.iterdir())) == 1
        go_on[late].set()
        assert "new/99" in await shows(parts, base, await freezing)


@pytest.mark.parametrize("failing", ["sync", "commit"])
async def test_what_cannot_be_brought_to_disk_leaves_the_snapshot_to_be_frozen_again(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(5, "the disk is broken")

    async with local(tmp_path / "root", "overlayfs", FakeContent()) as parts:
        base = await step(parts)
        with shown(await parts.snapshots.mounts("step")) as root:
            for number in range(100):
                (root / f"new/{number}").write_text("")
        monkeypatch.setattr(Syncer if failing == "sync" else FakeContent, failing, fail)
        with pytest.raises(OSError, match="the disk is broken"):
            await parts.differ.freeze("step", EXCLUDED)
        monkeypatch.undo()
        assert "new/99" in await shows(parts, base, await parts.differ.freeze("step", EXCLUDED))
        assert await findings(parts) == []


async def test_a_blob_is_to_be_read_soon_where_its_layer_is_still_to_be_unpacked(tmp_path: Path, driver: str) -> None:
    async with local(tmp_path / "root", driver, FakeContent()) as parts:
        await step(parts)
        await parts.differ.layer_of("step", EXCLUDED)
        await parts.differ.freeze("step", EXCLUDED)
        assert parts.content.read_soon == [True, driver == "native"]


def test_settling_that_is_cut_short_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(root: Path) -> Told:
        (root / "d/e").mkdir(parents=True)
        for name in ("d/kept", "d/left", "d/e/kept", "d/e/left", "left"):
            (root / name).write_text(name)
        for name in ("d/kept", "d/e/kept", "d/e", "d"):
            os.utime(root / name, ns=(0, 10**18))
        return Told(written={b"d", b"d/kept", b"d/e", b"d/e/kept"})

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    settled = settle(tmp_path / "one", make(tmp_path / "one"))
    told = make(tmp_path / "two")
    strip, calls = settling.strip, 0

    def failing(target: int | bytes, *, keep_opaque: bool) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(5, "killed")
        strip(target, keep_opaque=keep_opaque)

    monkeypatch.setattr(settling, "strip", failing)
    with pytest.raises(OSError, match="killed"):
        settle(tmp_path / "two", told)
    monkeypatch.undo()
    assert settle(tmp_path / "two", told) == settled
    assert set(facts(tmp_path / "one")) == {"d", "d/kept", "d/e", "d/e/kept"}
    assert facts(tmp_path / "one")["d"][2] == (os.getuid(), os.getgid(), 10**18)
    usage = measure(tmp_path / "one")
    assert (settled.size_bytes, settled.inodes) == (usage.size_bytes, usage.inodes)


async def owners(collector: LayerCollector, diff_id: Digest) -> list[str]:
    return [one.owner async for page in collector.objects(measure=True) for one in page if one.id == diff_id]


async def test_a_pass_leaves_a_layer_to_whoever_froze_it_and_takes_it_after_the_stack(
    tmp_path: Path, driver: str
) -> None:
    async with local(tmp_path / "root", driver, FakeContent()) as parts:
        base = await step(parts)
        layer = await parts.differ.freeze("step", EXCLUDED)
        assert layer is not None
        catalog, images = catalog_of(parts), Images()
        images.named["base"] = (base,)
        collector = LayerCollector(catalog, images, LayerUsage(catalog, images))
        await collector.collect(leftovers=True)
        assert await owners(collector, layer.diff_id) == [HOLD]
        images.leased["record"] = (base, layer.diff_id)
        chain = await parts.layers.stack([base, layer.diff_id])
        await collector.collect(leftovers=True)
        assert await owners(collector, layer.diff_id) == [LEASE]
        assert (await parts.snapshots.stat(chain)).key == chain
        images.leased.clear()
        freed = await collector.collect(leftovers=False)
        assert (freed["snapshot"].count, freed["layer"].count) == (1, 1)
        with pytest.raises(NotFoundError):
            await parts.snapshots.stat(chain)


async def test_on_a_full_disk_the_snapshot_stays_or_the_layer_is_whole(tmp_path: Path, driver: str) -> None:
    with small_disk(tmp_path, "ext4", 60) as disk:
        async with local(disk.path / "root", driver, FakeContent()) as parts:
            base = await step(parts)
            await asyncio.to_thread(disk.fill)
            try:
                await parts.differ.freeze("step", EXCLUDED)
            except ResourceExhaustedError:
                assert (await parts.snapshots.stat("step")).key == "step"
            await asyncio.to_thread(disk.free)
            assert "new/file" in await shows(parts, base, await parts.differ.freeze("step", EXCLUDED))


async def test_a_transient_snapshot_that_a_power_cut_took_is_forgotten(tmp_path: Path, driver: str) -> None:
    async with local(tmp_path / "root", driver, FakeContent()) as parts:
        await step(parts, "step")
        found = await parts.snapshots.list([f'labels."{TRANSIENT_LABEL}"==1'])
        assert [one.key for one in found] == ["step"]
        (directory,) = parts.disk.snapshots.iterdir()
        await asyncio.to_thread(directory.rename, tmp_path / "lost")
    async with local(tmp_path / "root", driver, FakeContent()) as parts:
        assert await parts.snapshots.list([f'labels."{TRANSIENT_LABEL}"==1']) == []
        assert await findings(parts) == []
