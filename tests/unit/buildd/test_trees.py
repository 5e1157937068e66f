"""Snapshots of builds, with a storage that takes its time."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from buildd.protocol import Tree
from buildd.trees import SnapshotTrees, Storage
from sampan.errors import NotFoundError, ServiceGoneError
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.resource.snapshot import Mount, NewLayer
from tests.fakes.buildd import FakeKeeper, layer


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


class SlowDiffer:
    """Freezes when it is to."""

    def __init__(self, snapshots: SlowSnapshots) -> None:
        self._snapshots = snapshots
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def freeze(self, key: str, exclude: Sequence[str]) -> NewLayer:
        self.begun.set()
        await self.go_on.wait()
        del self._snapshots.here[key]
        made = layer({"made": b"1"})
        return NewLayer(made.descriptor, made.diff_id, 1)


class Given(FakeKeeper):
    """Notes what was ever kept."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: list[tuple[Layer, ...]] = []

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        self.ever.append(tuple(layers))
        await super().keep(id, layers)


class FakeLayers:
    """Notes what was stacked."""

    def __init__(self) -> None:
        self.stacked: list[Sequence[Digest]] = []

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        self.stacked.append(diff_ids)
        return "chain"


class FakeStorage:
    def __init__(self) -> None:
        self.snapshots = SlowSnapshots()
        self.differ = SlowDiffer(self.snapshots)
        self.layers = FakeLayers()
        self.keeper = Given()


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def trees(storage: FakeStorage) -> SnapshotTrees:
    return SnapshotTrees(cast("Storage", storage), storage.keeper)


async def used(trees: SnapshotTrees, entered: asyncio.Event | None = None) -> None:
    async with trees.writable(Tree()):
        if entered is not None:
            entered.set()
            await asyncio.Event().wait()


async def test_a_snapshot_that_is_made_after_its_build_was_cancelled_is_removed(
    storage: FakeStorage, trees: SnapshotTrees
) -> None:
    running = asyncio.create_task(used(trees))
    await storage.snapshots.begun.wait()
    running.cancel()
    await asyncio.wait({running})
    storage.snapshots.go_on.set()
    await trees.close()
    assert storage.snapshots.here == {}


async def test_a_build_that_is_cancelled_ends_after_its_snapshots(storage: FakeStorage, trees: SnapshotTrees) -> None:
    storage.snapshots.go_on.set()
    entered = asyncio.Event()
    running = asyncio.create_task(used(trees, entered))
    await entered.wait()
    assert storage.snapshots.here
    running.cancel()
    await asyncio.wait({running})
    assert storage.snapshots.here == {}


async def test_a_snapshot_whose_answer_was_lost_is_used(storage: FakeStorage, trees: SnapshotTrees) -> None:
    storage.snapshots.go_on.set()
    storage.snapshots.lost = 1
    await used(trees)
    await trees.close()
    assert storage.snapshots.here == {}


async def test_what_comes_of_a_freeze_whose_build_was_cancelled_is_given_up(
    storage: FakeStorage, trees: SnapshotTrees
) -> None:
    storage.snapshots.go_on.set()

    async def frozen() -> None:
        async with trees.writable(Tree()) as active:
            await active.freeze()

    running = asyncio.create_task(frozen())
    await storage.differ.begun.wait()
    running.cancel()
    storage.differ.go_on.set()
    await asyncio.wait({running})
    assert running.cancelled()
    await trees.close()
    # What had an owner for a moment goes with it; else it would be kept for whoever may still come for it.
    assert storage.keeper.ever == [(layer({"made": b"1"}),)]
    assert storage.layers.stacked == [[layer({"made": b"1"}).diff_id]]
    assert storage.keeper.leases == {}
    assert storage.snapshots.here == {}
