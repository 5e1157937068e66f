"""Behaviours that any snapshotter owes: run on each driver, and through servicer and client."""

import asyncio
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from sampan.api.containerd.diff.v1 import diff_pb2_grpc as diff_grpc
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc as snapshots_grpc
from sampan.api.snapshot.v1 import layers_pb2_grpc as layers_grpc
from sampan.client.snapshots import DifferClient, LayersClient, SnapshotsClient
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from sampan.oci.chain import chain_ids
from sampan.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import ApplyProgress, ChangeKind, Kind, Mount
from sampan.resource.storage import Differ, Layers, Snapshots
from sampan.service.interceptor import Interceptor, RpcMetrics
from sampan.store.database import Store
from sampan.sys.mounts import mount_options
from sampan.wire.channel import open_channel
from snapshotter.diff.differ import LocalDiffer
from snapshotter.drivers.driver import Driver
from snapshotter.drivers.erofs.driver import ErofsDriver
from snapshotter.drivers.erofs.mounts import ImageMounts, Way
from snapshotter.drivers.native import NativeDriver
from snapshotter.drivers.overlayfs import OverlayDriver
from snapshotter.layers.apply import Applier
from snapshotter.layers.layers import LocalLayers
from snapshotter.layers.limits import LayerLimits
from snapshotter.main import choose
from snapshotter.metrics import Metrics
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Disk, Syncer
from snapshotter.snapshots.snapshots import LocalSnapshots
from snapshotter.wire.servicer import DiffServicer, LayersServicer, SnapshotsServicer
from tests.fakes.content import FakeContent
from tests.support.tools import unmount


@dataclass(frozen=True, slots=True)
class Parts:
    """One snapshotter, and the content store that it reads."""

    snapshots: Snapshots
    layers: Layers
    differ: Differ
    content: FakeContent
    disk: Disk


_LIMITS = LayerLimits()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        return self.now_ns


@asynccontextmanager
async def local(
    root: Path,
    driver_name: str,
    content: FakeContent,
    clock: Clock | None = None,
    *,
    ways: Sequence[Way] = tuple(Way),
    limits: LayerLimits = _LIMITS,
) -> AsyncIterator[Parts]:
    """Run a snapshotter on ``root`` in this process."""
    root.mkdir(exist_ok=True)
    disk = Disk(root)
    images = ImageMounts(root / "m", ways)
    drivers: dict[str, Driver] = {
        "erofs": ErofsDriver(images),
        "overlayfs": OverlayDriver(),
        "native": NativeDriver(),
    }
    report = await choose(drivers, driver_name, root)
    driver = drivers[report.driver]
    async with Store(root / "metadata.db", "snapshotter.schema", durable=False) as store:
        catalog = Catalog(store, disk, images, now_ns=clock or Clock())
        await catalog.recover()
        syncer = Syncer(root)
        metrics = Metrics(CollectorRegistry(), driver.name)
        applier = Applier(catalog, content, syncer, metrics, layer_format=driver.layer_format, limits=limits)
        layers = LocalLayers(catalog, applier, report)
        snapshots = LocalSnapshots(catalog, driver, {d.snapshot_format: d for d in drivers.values()}, syncer)
        disk.start()
        layers.start()
        try:
            yield Parts(snapshots, layers, LocalDiffer(catalog, applier, content, syncer), content, disk)
        finally:
            await layers.close()
            await disk.close()
            await images.close()


@asynccontextmanager
async def over_grpc(parts: Parts) -> AsyncIterator[Parts]:
    """Serve ``parts`` on a socket, and talk to them through it."""
    with tempfile.TemporaryDirectory() as directory:
        server = grpc.aio.server(interceptors=[Interceptor(RpcMetrics(CollectorRegistry()))])
        snapshots_grpc.add_SnapshotsServicer_to_server(SnapshotsServicer(parts.snapshots), server)
        layers_grpc.add_LayersServicer_to_server(LayersServicer(parts.layers, parts.differ), server)
        diff_grpc.add_DiffServicer_to_server(DiffServicer(parts.differ), server)
        server.add_insecure_port(f"unix:{directory}/socket")
        await server.start()
        async with open_channel(Path(directory) / "socket") as channel:
            yield Parts(
                SnapshotsClient(channel), LayersClient(channel), DifferClient(channel), parts.content, parts.disk
            )
        await server.stop(0)


@contextmanager
def shown(mounts: Sequence[Mount]) -> Iterator[Path]:
    """Mount a snapshot somewhere."""
    (mount,) = mounts
    with tempfile.TemporaryDirectory() as directory:
        mount_options(mount.source, directory, mount.fstype, mount.options)
        try:
            yield Path(directory)
        finally:
            unmount(directory)


def tar(**files: str | bytes | tarfile.TarInfo | None) -> bytes:
    """Return a layer: text for a file, None for a directory; ``__`` in a name is a slash, ``_WH_`` a whiteout."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for key, content in files.items():
            name = key.replace("_WH_", ".wh.").replace("_OPQ", ".wh..wh..opq").replace("__", "/")
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mtime = 1_600_000_000
            info.mode = 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            data = content.encode() if isinstance(content, str) else content or b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def names(root: Path) -> list[str]:
    """Return all paths below ``root``."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


async def finished(progress: AsyncIterator[ApplyProgress]) -> ApplyProgress:
    """Return the last progress."""
    return [step async for step in progress][-1]


class Kit:
    """What tests do again and again."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def blob(self, layer: bytes) -> tuple[Descriptor, Digest]:
        data = gzip.compress(layer, mtime=0)
        return Descriptor(OCI_LAYER_GZIP, self.parts.content.add(data), len(data)), Digest.of(layer)

    async def apply(self, layer: bytes) -> Digest:
        descriptor, diff_id = self.blob(layer)
        assert (await finished(self.parts.layers.apply(descriptor, diff_id))).done
        return diff_id

    async def image(self, *layers: bytes) -> str:
        return await self.parts.layers.stack([await self.apply(layer) for layer in layers])


@pytest.mark.root
class SnapshotterContract:
    """Subclasses give ``parts``."""

    @pytest.fixture
    def kit(self, parts: Parts) -> Kit:
        return Kit(parts)

    async def test_a_stack_shows_its_layers_over_each_other(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(
            tar(etc=None, etc__a="1", etc__b="1"), tar(etc__b="2", etc__c="2"), tar(usr=None, etc__c="3")
        )
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["etc", "etc/a", "etc/b", "etc/c", "usr"]
            assert [(root / "etc" / name).read_text() for name in "abc"] == ["1", "2", "3"]

    async def test_whiteouts_hide_what_is_below_and_not_what_is_beside(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(
            tar(d=None, d__a="1", d__b="1", e=None, e__old="1", f="1", g=None, g__old="1"),
            tar(d___WH_a="", e__new="2", e___OPQ="", _WH_f="", _WH_g="", g=None, g__new="2"),
        )
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["d", "d/b", "e", "e/new", "g", "g/new"]

    async def test_an_opaque_root_hides_all_layers_below(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(old="1"), tar(_OPQ="", new="2"), tar(newer="3"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["new", "newer"]

    async def test_what_is_written_stays_and_is_nobody_elses(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        with shown(await parts.snapshots.prepare("one", chain, {})) as root:
            (root / "a").write_text("changed")
            (root / "b").touch()
        await parts.snapshots.prepare("two", chain, {})
        with shown(await parts.snapshots.mounts("one")) as root:
            assert (root / "a").read_text() == "changed"
        with shown(await parts.snapshots.mounts("two")) as root:
            assert names(root) == ["a"]
            assert (root / "a").read_text() == "1"

    async def test_mounts_are_the_same_as_when_it_was_made(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"), tar(b="1"))
        assert await parts.snapshots.prepare("one", chain, {}) == await parts.snapshots.mounts("one")
        assert await parts.snapshots.view("two", chain, {}) == await parts.snapshots.mounts("two")

    @pytest.mark.parametrize("layers", [1, 3])
    async def test_a_view_cannot_be_written(self, kit: Kit, parts: Parts, layers: int) -> None:
        chain = await kit.image(*(tar(a=str(number)) for number in range(layers)))
        with shown(await parts.snapshots.view("look", chain, {})) as root:
            assert (root / "a").read_text() == str(layers - 1)
            with pytest.raises(OSError, match="Read-only"):
                (root / "b").touch()

    async def test_a_snapshot_without_parent_begins_empty(self, parts: Parts) -> None:
        with shown(await parts.snapshots.prepare("base", None, {})) as root:
            assert names(root) == []
            assert stat.S_IMODE(root.stat().st_mode) == 0o755

    async def test_a_committed_snapshot_is_a_parent(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", b="1", d=None, d__x="1"))
        with shown(await parts.snapshots.prepare("build", chain, {})) as root:
            (root / "a").unlink()
            (root / "c").write_text("new")
            (root / "d" / "x").unlink()
        await parts.snapshots.commit("built", "build", {"step": "1"})
        with pytest.raises(NotFoundError):
            await parts.snapshots.mounts("build")
        with shown(await parts.snapshots.prepare("run", "built", {})) as root:
            assert names(root) == ["b", "c", "d"]
        assert (await parts.snapshots.stat("built")).labels == {"step": "1"}
        assert (await parts.snapshots.stat("built")).parent == chain
        await parts.snapshots.commit("built", "build", {})  # once more, as after a lost reply

    async def test_commit_refuses_what_it_must(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("one", chain, {})
        await parts.snapshots.prepare("two", chain, {})
        await parts.snapshots.view("look", chain, {})
        await parts.snapshots.commit("name", "one", {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.commit("name", "two", {})
        with pytest.raises(NotFoundError):
            await parts.snapshots.commit("other", "one", {})
        with pytest.raises(ConflictError):
            await parts.snapshots.commit("other", "look", {})

    async def test_keys_and_parents_are_checked(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.view(chain, chain, {})
        with pytest.raises(NotFoundError):
            await parts.snapshots.prepare("new", "missing", {})
        with pytest.raises(ConflictError, match="commit it first"):
            await parts.snapshots.prepare("new", "web", {})
        with pytest.raises(InvalidArgumentError):
            await parts.snapshots.prepare("", chain, {})
        with pytest.raises(ConflictError, match="prepare or view it first"):
            await parts.snapshots.mounts(chain)
        with pytest.raises(NotFoundError):
            await parts.snapshots.mounts("missing")

    async def test_many_at_once_of_one_key_make_one(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        tries = [parts.snapshots.prepare("web", chain, {}) for _ in range(8)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, tuple) for result in results) == 1
        assert all(isinstance(result, tuple | AlreadyExistsError) for result in results)
        assert len(list(parts.disk.snapshots.iterdir())) == 1

    async def test_remove_of_a_parent_with_children_is_a_conflict(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(ConflictError, match="parent of 'web'"):
            await parts.snapshots.remove(chain)
        await parts.snapshots.remove("web")
        await parts.snapshots.remove(chain)
        with pytest.raises(NotFoundError):
            await parts.snapshots.remove("web")

    async def test_removing_everything_leaves_nothing_on_disk(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"), tar(b="1"))
        await parts.snapshots.prepare("web", chain, {})
        await parts.snapshots.remove("web")
        stack = chain_ids([Digest.of(tar(a="1")), Digest.of(tar(b="1"))])
        assert stack[-1] == chain
        removed = await parts.layers.unstack([stack])
        assert removed.chain_ids == (stack[1], stack[0])
        assert removed.reclaimed_bytes > 0
        await parts.snapshots.cleanup()
        for directory in ("l", "s", "tmp", "trash"):
            assert list((parts.disk.root / directory).iterdir()) == []
        assert (await parts.layers.unstack([stack])).reclaimed_bytes == 0

    async def test_unstack_stops_at_what_is_used(self, kit: Kit, parts: Parts) -> None:
        base, middle, top = tar(a="1"), tar(b="1"), tar(c="1")
        other = await kit.image(base, tar(d="1"))
        chain = await kit.image(base, middle, top)
        ids = chain_ids([Digest.of(base), Digest.of(middle), Digest.of(top)])
        assert ids[2] == chain
        assert (await parts.layers.unstack([ids])).chain_ids == (ids[2], ids[1])
        with shown(await parts.snapshots.prepare("web", other, {})) as root:
            assert names(root) == ["a", "d"]

    async def test_what_outlived_its_image_goes_with_the_last_container(self, kit: Kit, parts: Parts) -> None:
        base, top = tar(a="1"), tar(b="1")
        stack = chain_ids([Digest.of(base), Digest.of(top)])
        chain = await kit.image(base, top)
        for key in ("web", "db"):
            await parts.snapshots.prepare(key, chain, {})
        assert (await parts.layers.unstack([stack])).chain_ids == ()
        await parts.snapshots.remove("web")
        assert len(await parts.snapshots.list([])) == 3
        await parts.snapshots.remove("db")
        assert await parts.snapshots.list([]) == []
        assert list(parts.disk.layers.iterdir()) == []

    async def test_what_outlived_its_image_stays_for_one_that_came_again(self, kit: Kit, parts: Parts) -> None:
        layer = tar(a="1")
        chain = await kit.image(layer)
        await parts.snapshots.prepare("web", chain, {})
        await parts.layers.unstack([[chain]])
        await parts.layers.stack([Digest.of(layer)])
        await parts.snapshots.remove("web")
        assert [snapshot.key for snapshot in await parts.snapshots.list([])] == [chain]

    async def test_labels_change_one_by_one_or_all_at_once(self, parts: Parts) -> None:
        await parts.snapshots.prepare("web", None, {"a": "1", "b": "2"})
        snapshot = await parts.snapshots.update("web", {"b": "3", "a": None, "io.x/y": "z"}, replace=False)
        assert snapshot.labels == {"b": "3", "io.x/y": "z"}
        snapshot = await parts.snapshots.update("web", {"only": "this"}, replace=True)
        assert snapshot.labels == (await parts.snapshots.stat("web")).labels == {"only": "this"}
        with pytest.raises(NotFoundError):
            await parts.snapshots.update("missing", {}, replace=True)

    async def test_list_filters(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {"role": "x"})
        await parts.snapshots.view("look", chain, {})
        assert [one.key for one in await parts.snapshots.list([])] == [chain, "web", "look"]
        assert [one.key for one in await parts.snapshots.list(["kind==committed"])] == [chain]
        assert [one.key for one in await parts.snapshots.list(["labels.role==x", "kind==view"])] == ["web", "look"]
        with pytest.raises(InvalidArgumentError):
            await parts.snapshots.list(["what=ever"])

    async def test_stat_tells_kind_and_parent(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        found = await parts.snapshots.stat("web")
        assert (found.kind, found.parent) == (Kind.ACTIVE, chain)
        assert (await parts.snapshots.stat(chain)).kind is Kind.COMMITTED

    async def test_usage_counts_what_is_a_snapshots_own(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a=b"x" * 100_000))
        assert (await parts.snapshots.usage(chain)).size_bytes in range(100_000, 120_000)
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            before = (await parts.snapshots.usage("web")).size_bytes
            (root / "new").write_bytes(b"y" * 50_000)
            os.sync()
        assert (await parts.snapshots.usage("web")).size_bytes - before in range(50_000, 60_000)
        usages = {usage.key: usage for usage in await parts.layers.usages()}
        assert usages[chain].layer_users == 1
        assert usages["web"].parent == chain

    async def test_applying_again_ends_at_once(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a="1"))
        assert not (await finished(parts.layers.apply(descriptor, diff_id))).existed
        last = await finished(parts.layers.apply(descriptor, diff_id))
        assert (last.existed, last.done) == (True, True)
        assert parts.content.reads == 1

    async def test_the_same_layer_twice_at_once_is_read_once(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a=os.urandom(3 << 20)))
        both = await asyncio.gather(*(finished(parts.layers.apply(descriptor, diff_id)) for _ in range(2)))
        assert all(last.done for last in both)
        assert parts.content.reads == 1

    async def test_progress_grows_to_the_size_of_the_blob(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a=os.urandom(5 << 20)))
        read = [progress.read_bytes async for progress in parts.layers.apply(descriptor, diff_id)]
        assert read == sorted(read)
        assert len(read) > 2
        assert read[-1] == descriptor.size

    async def test_a_caller_who_leaves_stops_the_work_and_leaves_nothing(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a=os.urandom(4 << 20)))
        reached, never = asyncio.Event(), asyncio.Event()

        async def stall(offset: int) -> None:
            if offset >= 2 << 20:
                reached.set()
                await never.wait()

        parts.content.before_piece = stall  # type: ignore[method-assign]  # what it is for
        task = asyncio.create_task(finished(parts.layers.apply(descriptor, diff_id)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until_empty(parts.disk.root / "tmp")
        assert list(parts.disk.layers.iterdir()) == []
        never.set()
        parts.content.before_piece = FakeContent().before_piece  # type: ignore[method-assign]
        assert (await finished(parts.layers.apply(descriptor, diff_id))).done

    @pytest.mark.parametrize(
        ("damage", "error", "words"),
        [
            ("missing", NotFoundError, "does not exist"),
            ("flipped", DataLossError, "is damaged"),
            ("short", DataLossError, "its descriptor says"),
            ("long", DataLossError, "is longer than"),
            ("diff_id", DataLossError, "its image says"),
            ("junk", InvalidArgumentError, "after its end"),
        ],
    )
    async def test_a_bad_blob_is_refused_and_leaves_nothing(
        self, kit: Kit, parts: Parts, damage: str, error: type[Exception], words: str
    ) -> None:
        descriptor, diff_id = kit.blob(tar(a=os.urandom(100_000)))
        data = parts.content.blobs[descriptor.digest]
        if damage == "missing":
            del parts.content.blobs[descriptor.digest]
        elif damage == "diff_id":
            diff_id = Digest.of(b"something else")
        elif damage == "junk":
            data += b"junk"
            descriptor = Descriptor(descriptor.media_type, parts.content.add(data), len(data))
        else:
            changed = {"flipped": data[:50_000] + b"\0\1\2" + data[50_003:], "short": data[:-50], "long": data + b"x"}
            parts.content.blobs[descriptor.digest] = changed[damage]
        with pytest.raises(error, match=words) as caught:
            await finished(parts.layers.apply(descriptor, diff_id))
        if damage != "missing":
            assert diff_id in str(caught.value)
        await _until_empty(parts.disk.root / "tmp")
        assert list(parts.disk.layers.iterdir()) == []
        with pytest.raises(NotFoundError, match=diff_id):
            await parts.layers.stack([diff_id])

    async def test_a_worker_that_is_killed_is_that_layers_error_alone(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a=os.urandom(4 << 20)))

        async def kill(offset: int) -> None:
            if offset == 2 << 20:
                for process in workers():
                    os.kill(process, 9)

        parts.content.before_piece = kill  # type: ignore[method-assign]
        with pytest.raises(UnavailableError, match=r"killed by SIGKILL"):
            await finished(parts.layers.apply(descriptor, diff_id))
        parts.content.before_piece = FakeContent().before_piece  # type: ignore[method-assign]
        assert (await finished(parts.layers.apply(descriptor, diff_id))).done

    async def test_stack_names_the_first_layer_that_is_missing(self, kit: Kit, parts: Parts) -> None:
        here = await kit.apply(tar(a="1"))
        missing = Digest.of(b"nowhere")
        with pytest.raises(NotFoundError, match=missing):
            await parts.layers.stack([here, missing])
        assert await parts.snapshots.list([]) == []
        assert await parts.layers.stack([]) == ""

    async def test_stack_can_be_repeated_and_shares_layers(self, kit: Kit, parts: Parts) -> None:
        base = tar(a="1")
        one = await kit.image(base, tar(b="1"))
        assert await kit.image(base, tar(b="1")) == one
        two = await kit.image(tar(b="1"), base)
        assert one != two
        assert len(list(parts.disk.layers.iterdir())) == 2

    async def test_one_layer_may_be_in_a_stack_twice(self, kit: Kit, parts: Parts) -> None:
        empty = tar()
        chain = await kit.image(tar(a="1"), empty, tar(b="1"), empty)
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["a", "b"]

    async def test_changes_are_those_docker_diff_shows(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(etc=None, etc__a="1", etc__b="1", usr=None, usr__x="1", var=None, var__y="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            (root / "etc" / "a").write_text("changed")
            (root / "etc" / "b").unlink()
            (root / "new").mkdir()
            (root / "new" / "f").touch()
            (root / "usr" / "x").unlink()
            (root / "usr").rmdir()
        found = [(change.path.decode(), change.kind) for change in await parts.layers.changes("web")]
        assert found == [
            ("etc", ChangeKind.MODIFIED),
            ("etc/a", ChangeKind.MODIFIED),
            ("etc/b", ChangeKind.DELETED),
            ("new", ChangeKind.ADDED),
            ("new/f", ChangeKind.ADDED),
            ("usr", ChangeKind.DELETED),
        ]
        with pytest.raises(NotFoundError):
            await parts.layers.changes("missing")

    @pytest.mark.parametrize("media_type", [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, ""])
    async def test_a_difference_makes_a_layer_that_makes_the_difference(
        self, kit: Kit, parts: Parts, media_type: str
    ) -> None:
        lower = tar(etc=None, etc__a="1", etc__b="1", d=None, d__x="1", d__y="1", z="1")
        chain = await kit.image(lower)
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            _change(root)
            wanted = _facts(root)
        left = await parts.snapshots.view("before", chain, {})
        right = await parts.snapshots.mounts("web")
        descriptor = await parts.differ.diff(left, right, media_type, "ref", {"l": "1"})
        again = await parts.differ.diff(left, right, media_type, "ref", {})
        assert again == descriptor
        assert descriptor.media_type == (media_type or OCI_LAYER_GZIP)
        blob = parts.content.blobs[descriptor.digest]
        assert len(blob) == descriptor.size
        diff_id = Digest(parts.content.labels[descriptor.digest]["containerd.io/uncompressed"])
        await finished(parts.layers.apply(descriptor, diff_id))
        copy = await parts.layers.stack([Digest.of(lower), diff_id])
        with shown(await parts.snapshots.prepare("copy", copy, {})) as root:
            assert _facts(root) == wanted

    async def test_a_directory_made_again_is_opaque_in_the_layer(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(d=None, d__x="1", d__y="1", e=None, e__x="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            for name in "xy":
                (root / "d" / name).unlink()
            (root / "d").rmdir()
            (root / "d").mkdir()
            (root / "d" / "x").write_text("2")
        view, mounts = await parts.snapshots.view("look", chain, {}), await parts.snapshots.mounts("web")
        descriptor = await parts.differ.diff(view, mounts, OCI_LAYER, "ref", {})
        with tarfile.open(fileobj=io.BytesIO(parts.content.blobs[descriptor.digest])) as archive:
            marks = [name for name in archive.getnames() if ".wh." in name]
            assert "d/x" in archive.getnames()
        # A full copy cannot tell "made again" from "emptied".
        full = (await parts.layers.drivers()).driver == "native"
        assert marks == (["d/.wh.y"] if full else ["d/.wh..wh..opq"])

    async def test_a_difference_from_nothing_is_everything(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", d=None), tar(_WH_a="", b="2"))
        view = await parts.snapshots.view("look", chain, {})
        descriptor = await parts.differ.diff((), view, OCI_LAYER, "ref", {})
        with tarfile.open(fileobj=io.BytesIO(parts.content.blobs[descriptor.digest])) as archive:
            assert archive.getnames() == ["b", "d"]

    async def test_layers_are_unpacked_while_nobody_waits(self, kit: Kit, parts: Parts) -> None:
        layers = [kit.blob(tar(a="1")), kit.blob(tar(b="2"))]
        chain = chain_ids([diff_id for _, diff_id in layers])[-1]
        await parts.layers.unpack(layers)
        async with asyncio.timeout(20):
            while not await parts.snapshots.list([f"name=={chain}"]):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.02)
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["a", "b"]

    async def test_what_is_unpacked_in_the_background_ends_with_its_stack(self, kit: Kit, parts: Parts) -> None:
        layers = [kit.blob(tar(a="1" * (8 << 20)))]
        chain = chain_ids([diff_id for _, diff_id in layers])[-1]
        await parts.layers.unpack(layers)
        await parts.layers.unstack([[chain]])
        assert await parts.snapshots.list([f"name=={chain}"]) == []

    async def test_a_snapshot_s_changes_are_a_layer_without_what_is_excluded(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", etc=None, etc__old="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert await parts.differ.layer_of("web", ()) is None
            (root / "etc/hosts").write_text("")
            (root / "proc").mkdir()
            assert await parts.differ.layer_of("web", ("/etc/hosts", "/proc")) is None
            (root / "etc/new").write_text("2")
            (root / "proc/x").write_text("")
        layer = await parts.differ.layer_of("web", ("/etc/hosts", "/proc"))
        assert layer is not None
        packed = gzip.decompress(parts.content.blobs[layer.descriptor.digest])
        assert layer.diff_id == f"sha256:{hashlib.sha256(packed).hexdigest()}"
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            assert archive.getnames() == ["etc", "etc/new"]
        with pytest.raises(NotFoundError):
            await parts.differ.layer_of("missing", ())

    async def test_an_export_is_all_that_a_snapshot_shows(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", d=None, d__x="1"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            (root / "a").unlink()
            (root / "d/y").write_bytes(bytes(3 << 20))
            os.link(root / "d/y", root / "d/z")
            os.chown(root / "d/y", 12, 34)
        archive = b"".join([piece async for piece in parts.differ.export("web")])
        with tarfile.open(fileobj=io.BytesIO(archive)) as exported:
            assert exported.getnames() == ["d", "d/x", "d/y", "d/z"]
            info = exported.getmember("d/y")
            assert (info.size, info.uid, info.gid) == (3 << 20, 12, 34)
            assert exported.getmember("d/z").linkname == "d/y"
        with pytest.raises(NotFoundError):
            await anext(parts.differ.export("missing"))

    async def test_an_export_that_is_left_early_ends(self, parts: Parts) -> None:
        with shown(await parts.snapshots.prepare("web", None, {})) as root:
            (root / "large").write_bytes(bytes(32 << 20))
        pieces = parts.differ.export("web")
        await anext(pieces)
        async with asyncio.timeout(10):
            await pieces.aclose()

    async def test_a_layer_can_be_applied_onto_an_active_snapshot(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", d=None, d__x="1"))
        mounts = await parts.snapshots.prepare("extract", chain, {})
        layer = tar(_WH_a="", d__y="2")
        descriptor, diff_id = kit.blob(layer)
        applied = await parts.differ.apply_onto(descriptor, mounts)
        assert (applied.digest, applied.size) == (diff_id, len(layer))
        await parts.snapshots.commit("next", "extract", {})
        with shown(await parts.snapshots.prepare("web", "next", {})) as root:
            assert names(root) == ["d", "d/x", "d/y"]

    async def test_mounts_of_somebody_else_are_refused(self, kit: Kit, parts: Parts) -> None:
        descriptor, _ = kit.blob(tar(a="1"))
        chain = await kit.image(tar(a="1"))
        view = await parts.snapshots.view("look", chain, {})
        for mounts in ((), (Mount("bind", "/etc", ("rbind", "rw")),), view):
            with pytest.raises(NotFoundError):
                await parts.differ.apply_onto(descriptor, mounts)
        with pytest.raises(NotFoundError):
            await parts.differ.diff((), (Mount("bind", "/etc", ("rbind", "ro")),), OCI_LAYER, "", {})
        with pytest.raises(InvalidArgumentError, match="media type"):
            await parts.differ.diff((), view, "text/plain", "", {})

    async def test_the_driver_in_use_is_told_with_the_reasons(self, parts: Parts) -> None:
        report = await parts.layers.drivers()
        assert report.driver in ("erofs", "overlayfs", "native")
        assert {driver.name for driver in report.drivers} >= {"overlayfs", "native"}
        assert all(driver.reason for driver in report.drivers)


def _change(root: Path) -> None:
    (root / "etc" / "a").write_text("changed")
    (root / "etc" / "b").unlink()
    (root / "d" / "x").unlink()
    (root / "d" / "y").unlink()
    (root / "d").rmdir()
    (root / "d").mkdir()
    (root / "d" / "new").write_text("n")
    os.link(root / "d" / "new", root / "d" / "hard")
    os.symlink("../etc/a", root / "d" / "soft")
    (root / "z").unlink()
    (root / "z").mkdir(mode=0o1777)
    (root / "z").chmod(0o1777)
    os.mkfifo(root / "z" / "fifo")
    os.chown(root / "etc" / "a", 1000, 70000)
    (root / "etc" / "a").chmod(0o4711)
    os.setxattr(root / "etc" / "a", "user.note", b"hi\0there")
    os.setxattr(root / "etc" / "a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))


def _facts(root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        content: Any = None
        if stat.S_ISREG(found.st_mode):
            content = (path.read_bytes(), found.st_mtime_ns, found.st_nlink)
        elif stat.S_ISLNK(found.st_mode):
            content = path.readlink()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        facts[str(path.relative_to(root))] = (
            found.st_mode, found.st_uid, found.st_gid, content,
            {name: value for name, value in xattrs.items() if not name.startswith("trusted.overlay.")},
        )  # fmt: skip
    return facts


def workers(service: int | None = None) -> list[int]:
    """Return the worker processes of this test, or of a process: its children's children that call themselves so."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "comm").read_text() != "layer worker\n":
                continue
            template = Path("/proc") / _parent(directory)
            if _parent(template) == str(service or os.getpid()):
                found.append(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _parent(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[1]


async def _until_empty(directory: Path) -> None:
    async with asyncio.timeout(10):
        while any(directory.iterdir()):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
