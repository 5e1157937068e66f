"""What freezes make has an owner at every moment: a record, or a lease that the next start finds."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import cast

import pytest

from buildd.cache.keeper import LeaseKeeper
from buildd.deferred import DEFERRED
from buildd.freezes import Freezes
from buildd.protocol import Tree
from buildd.trees import SnapshotTrees, Storage
from sampan.errors import UnavailableError
from sampan.oci.descriptor import OCI_LAYER_GZIP
from sampan.resource.image import Layer
from tests.fakes.build_storage import FakeBuildStorage, made_of
from tests.fakes.crashes import KilledError, Steps


async def reached() -> None:
    """Whoever is to be called can be."""


class Life:
    """A builder's, on a storage that outlives it."""

    def __init__(self, storage: FakeBuildStorage, defer_bytes: int = 0) -> None:
        storage.steps = Steps()
        self.storage = storage
        self.freezes = Freezes(storage, defer_bytes)  # type: ignore[arg-type]
        self.trees = SnapshotTrees(cast("Storage", storage), self.freezes)
        self.keeper = LeaseKeeper(storage.leases, storage, reached)  # type: ignore[arg-type]

    async def step(self, base: Tree = Tree()) -> Tree:  # noqa: B008 - it is frozen
        """Have a step run, whose output is not recorded yet."""
        async with self.trees.writable(base) as active:
            return await active.freeze()

    async def record(self, tree: Tree, name: str = "record") -> None:
        await self.keeper.keep(name, tree.layers)
        await self.trees.ready(tree)
        self.trees.recorded([tree])


async def recorded(life: Life) -> None:
    await life.record(await life.step())


async def unrecorded(life: Life) -> None:
    await life.step()
    life.freezes.give_up_rest()


async def on_another(life: Life) -> None:
    tree = await life.step()
    await life.record(tree)
    life.storage.writes = "more files"
    await life.record(await life.step(tree), "another record")


async def unchanged(life: Life) -> None:
    life.storage.writes = ""
    assert (await life.step()).layers == ()


async def not_frozen(life: Life) -> None:
    async with life.trees.writable(Tree()):
        pass


async def failing(life: Life) -> None:
    async def step() -> None:
        async with life.trees.writable(Tree()) as active:
            await active.freeze()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await step()


@pytest.mark.parametrize("defer_bytes", [0, 1])
@pytest.mark.parametrize("build", [recorded, unrecorded, on_another, unchanged, not_frozen, failing])
async def test_builder_that_is_killed_at_any_step_leaves_nothing_that_a_prune_does_not_find(
    build: Callable[[Life], Awaitable[None]], defer_bytes: int
) -> None:
    for kill_before in count():
        storage = FakeBuildStorage()
        life = Life(storage, defer_bytes)
        storage.steps.arm(kill_before, lambda: None)
        try:
            await build(life)
            killed = False
        except KilledError:
            killed = True
        await life.trees.close()
        killed = killed or storage.steps.killed
        life = Life(storage, defer_bytes)
        if killed:
            await life.trees.recover()
        records = await life.keeper.kept()
        assert [each for each in storage.here if "freeze" in each] == [], f"killed before step {kill_before}"
        assert storage.snapshots_here == {}
        await life.keeper.release(list(records))
        storage.collect()
        assert storage.left() == [], f"killed before step {kill_before}"
        if not killed:
            assert kill_before > 2
            break


async def test_layer_whose_blob_is_deferred_is_known_as_that_and_kept_without_one() -> None:
    life = Life(FakeBuildStorage(), defer_bytes=len("files"))
    tree = await life.step()
    (layer,) = tree.layers
    assert (layer.descriptor.media_type, layer.descriptor.digest) == (DEFERRED, layer.diff_id)
    await life.record(tree)
    await life.trees.close()
    assert life.storage.blobs == set()
    assert life.storage.here["build-cache-record"].digests == ()
    assert life.storage.here["build-cache-record"].diff_ids == (layer.diff_id,)
    life.storage.writes = "few"
    assert (await life.step()).layers[0].descriptor.media_type == OCI_LAYER_GZIP


async def test_what_a_record_keeps_stays_when_the_rest_is_given_up() -> None:
    life = Life(FakeBuildStorage())
    await life.record(await life.step())
    life.storage.writes = "a directory"
    await life.step()
    life.freezes.give_up_rest()
    await life.trees.close()
    files = made_of("files")
    assert life.storage.blobs == {files.descriptor.digest}
    assert (set(life.storage.held), set(life.storage.here)) == ({files.diff_id}, {"build-cache-record"})


async def test_what_two_steps_have_made_alike_stays_for_the_one_that_is_recorded() -> None:
    life = Life(FakeBuildStorage())
    tree = await life.step()
    await life.step()
    await life.keeper.keep("record", tree.layers)
    life.freezes.give_up_rest()
    await life.trees.close()
    layer = tree.layers[0]
    assert life.storage.blobs == {layer.descriptor.digest}
    assert (set(life.storage.held), set(life.storage.here)) == ({layer.diff_id}, {"build-cache-record"})
    await life.keeper.release(["record"])
    assert life.storage.left() == []


async def test_what_comes_of_a_freeze_whose_build_was_cancelled_is_given_up() -> None:
    storage = FakeBuildStorage()
    life = Life(storage)
    storage.may_freeze.clear()
    running = asyncio.create_task(life.step())
    await storage.freezing.wait()
    running.cancel()
    await asyncio.sleep(0)
    storage.may_freeze.set()
    await asyncio.wait({running})
    assert running.cancelled()
    assert storage.left() == []  # before the build knows that it is over


async def test_freeze_is_made_again_when_the_content_store_went_away_under_it() -> None:
    storage = FakeBuildStorage(gone=1)
    life = Life(storage)
    layer = made_of("files")
    assert (await life.step()).layers == (Layer(layer.descriptor, layer.diff_id),)


async def test_freeze_that_fails_leaves_nothing() -> None:
    storage = FakeBuildStorage(gone=2)
    life = Life(storage)
    with pytest.raises(UnavailableError):
        await life.step()
    await life.trees.close()
    assert storage.left() == []


async def test_what_could_not_be_given_up_is_when_the_next_build_is_over() -> None:
    storage = FakeBuildStorage()
    life = Life(storage)
    await life.step()
    storage.gone = 1
    life.freezes.give_up_rest()
    await life.trees.close()
    assert storage.left() != []
    life.freezes.give_up_rest()
    await life.trees.close()
    assert storage.left() == []
