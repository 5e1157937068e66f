"""Snapshots of builds, with a storage that takes its time."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import cast

import pytest

from buildd.freezes import Freezes
from buildd.protocol import Tree
from buildd.trees import SnapshotTrees, Storage
from sampan.errors import DataLossError, NotFoundError, ServiceGoneError
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.resource.snapshot import ApplyProgress, Mount
from tests.fakes.build_storage import FakeBuildStorage


class SlowSnapshots:
    """Snapshots that are made when they are to be, whoever has asked; ``lost`` answers do not arrive."""

    def __init__(self) -> None:
        self.here: dict[str, str | None] = {}
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.lost = 0

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        self.begun.set()
        await self.go_on.wait()
        self.here[key] = parent
        if self.lost:
            self.lost -= 1
            raise ServiceGoneError("the line broke")
        return ()

    async def stat(self, key: str) -> None:
        raise NotFoundError(key)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        if key not in self.here:
            raise NotFoundError(key)
        return ()

    async def remove(self, key: str) -> None:
        if key not in self.here:
            raise NotFoundError(key)
        await asyncio.sleep(0)
        del self.here[key]


class Stored:
    """Layers by diff ID; a blob is of the layer whose tar has its own digest."""

    def __init__(self) -> None:
        self.here: set[Digest] = set()

    async def stack(self, diff_ids: Sequence[Digest]) -> None:
        if not self.here.issuperset(diff_ids):
            raise NotFoundError("a layer is not stored")

    async def apply(self, descriptor: Descriptor, diff_id: Digest) -> AsyncGenerator[ApplyProgress, None]:
        existed = diff_id in self.here
        if not existed and descriptor.digest != diff_id:
            raise DataLossError(f"layer {diff_id}: its bytes are others")
        self.here.add(diff_id)
        yield ApplyProgress(existed=existed, done=True)


class SlowStorage:
    def __init__(self) -> None:
        self.layers = Stored()
        self.snapshots = SlowSnapshots()
        self.freezes = Freezes(FakeBuildStorage())  # type: ignore[arg-type]


@pytest.fixture
def storage() -> SlowStorage:
    return SlowStorage()


@pytest.fixture
def trees(storage: SlowStorage) -> SnapshotTrees:
    return SnapshotTrees(cast("Storage", storage), storage.freezes)


async def used(trees: SnapshotTrees, entered: asyncio.Event | None = None) -> None:
    async with trees.writable(Tree()):
        if entered is not None:
            entered.set()
            await asyncio.Event().wait()


async def test_a_snapshot_that_is_made_after_its_build_was_cancelled_is_removed(
    storage: SlowStorage, trees: SnapshotTrees
) -> None:
    running = asyncio.create_task(used(trees))
    await storage.snapshots.begun.wait()
    running.cancel()
    await asyncio.wait({running})
    storage.snapshots.go_on.set()
    await trees.close()
    assert storage.snapshots.here == {}


async def test_a_build_that_is_cancelled_ends_after_its_snapshots(storage: SlowStorage, trees: SnapshotTrees) -> None:
    storage.snapshots.go_on.set()
    entered = asyncio.Event()
    running = asyncio.create_task(used(trees, entered))
    await entered.wait()
    assert storage.snapshots.here
    running.cancel()
    await asyncio.wait({running})
    assert storage.snapshots.here == {}


async def test_a_snapshot_whose_answer_was_lost_is_used(storage: SlowStorage, trees: SnapshotTrees) -> None:
    storage.snapshots.go_on.set()
    storage.snapshots.lost = 1
    await used(trees)
    await trees.close()
    assert storage.snapshots.here == {}


async def test_blobs_that_are_said_to_be_a_layer_that_is_gone_are_looked_at(
    storage: SlowStorage, trees: SnapshotTrees
) -> None:
    diff_id = Digest.of(b"tar")
    true, lie = (Tree((Layer(Descriptor(OCI_LAYER, each, 3), diff_id),)) for each in (diff_id, Digest.of(b"lie")))
    chain = await trees.ready(true)
    storage.layers.here.clear()
    assert await trees.ready(true) == chain  # which is found out when it is used
    with pytest.raises(DataLossError):
        await trees.ready(lie)


async def test_layers_that_were_here_have_not_been_read_for_who_asks(
    storage: SlowStorage, trees: SnapshotTrees
) -> None:
    tar = Digest.of(b"tar")
    true, lie = (Layer(Descriptor(OCI_LAYER, each, 3), tar) for each in (tar, Digest.of(b"lie")))
    with pytest.raises(DataLossError):
        await trees.unproven(Tree((lie,)))
    assert await trees.unproven(Tree((true,))) == []
    assert await trees.unproven(Tree((lie,))) == [lie]
    assert await trees.unproven(Tree()) == ()
