"""Behaviours that any store of layers owes: run on each driver, and through servicer and client."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from sampan.oci.chain import chain_ids
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.storage.snapshots import Layers
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Kit, Parts, finished, names, shown, tar, workers


@dataclass(frozen=True, slots=True)
class StackParts:
    """A store of layers, and blobs to apply: each text makes another one."""

    layers: Layers
    blob: Callable[[str], tuple[Descriptor, Digest]]


class StackingContract:
    """Of what a pull does with layers, whatever is in them; subclasses give ``stacking``."""

    promises: tuple[type, ...] = (Layers,)

    async def applied(self, stacking: StackParts, *texts: str) -> list[Digest]:
        blobs = [stacking.blob(text) for text in texts]
        for descriptor, diff_id in blobs:
            last = await finished(stacking.layers.apply(descriptor, diff_id))
            assert (last.done, last.existed) == (True, False)
        return [diff_id for _, diff_id in blobs]

    async def test_layers_that_are_here_make_a_stack(self, stacking: StackParts) -> None:
        diff_ids = await self.applied(stacking, "base", "top")
        for _ in range(2):
            assert await stacking.layers.stack(diff_ids) == chain_ids(diff_ids)[-1]

    async def test_a_layer_that_is_not_here_makes_none(self, stacking: StackParts) -> None:
        (base,) = await self.applied(stacking, "base")
        with pytest.raises(NotFoundError):
            await stacking.layers.stack([base, Digest.of(b"never came")])

    async def test_one_that_is_here_is_not_read_again(self, stacking: StackParts) -> None:
        await self.applied(stacking, "base")
        last = await finished(stacking.layers.apply(*stacking.blob("base")))
        assert (last.done, last.existed) == (True, True)

    async def test_a_stack_goes_from_the_top(self, stacking: StackParts) -> None:
        diff_ids = await self.applied(stacking, "base", "top")
        await stacking.layers.stack(diff_ids)
        base, top = chain_ids(diff_ids)
        assert (await stacking.layers.unstack([[base, top]])).chain_ids == (top, base)

    async def test_the_driver_in_use_is_one_that_works(self, stacking: StackParts) -> None:
        report = await stacking.layers.drivers()
        assert report.driver in [each.name for each in report.drivers if each.usable]


@pytest.mark.root
class LayersContract:
    """Of layers and what is in them; subclasses give ``parts``."""

    promises: tuple[type, ...] = (Layers,)
    answers_may_be_lost = False  # between a service that has answered and a caller who has left

    @pytest.fixture
    def kit(self, parts: Parts) -> Kit:
        return Kit(parts)

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
        told = asyncio.Event()

        async def wait(offset: int) -> None:
            if offset >= 4 << 20:  # who looks seldom is told of the last step alone
                await told.wait()

        parts.content.before_piece = wait  # type: ignore[method-assign]  # what it is for
        read = []
        async for progress in parts.layers.apply(descriptor, diff_id):
            read.append(progress.read_bytes)
            told.set()
        assert read == sorted(read)
        assert 0 < read[0] < read[-1] == descriptor.size

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

    async def test_layers_are_unpacked_while_nobody_waits(self, kit: Kit, parts: Parts) -> None:
        layers = [kit.blob(tar(a="1")), kit.blob(tar(b="2"))]
        chain = chain_ids([diff_id for _, diff_id in layers])[-1]
        await parts.layers.unpack(layers)
        async with asyncio.timeout(60):
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

    async def test_what_is_unpacked_in_the_background_leaves_no_layer_whenever_its_stack_goes(
        self, kit: Kit, parts: Parts
    ) -> None:
        base, layers = tar(a="1"), [kit.blob(tar(a="1")), kit.blob(tar(b="2"))]
        stack = chain_ids([diff_id for _, diff_id in layers])
        for wait_ms in (0, 2, 4, 6, 9, 12, 16, 24):
            await kit.image(base)
            await parts.layers.unpack(layers)
            await asyncio.sleep(wait_ms / 1000)
            await parts.layers.unstack([stack])
            assert list(parts.disk.layers.iterdir()) == []

    async def test_a_caller_who_leaves_at_any_moment_leaves_no_layer(self, kit: Kit, parts: Parts) -> None:
        descriptor, diff_id = kit.blob(tar(a="1"))
        for wait_ms in (0, 2, 4, 6, 9, 12, 16, 24):
            task = asyncio.create_task(finished(parts.layers.apply(descriptor, diff_id)))
            await asyncio.sleep(wait_ms / 1000)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
                stack = await parts.layers.stack([diff_id])  # who has the answer has the layer, too
                await parts.layers.unstack([[stack]])
            await _until_empty(parts.disk.root / "tmp")
            try:
                await _until_empty(parts.disk.layers, 2 if self.answers_may_be_lost else 60)
            except TimeoutError:
                if not self.answers_may_be_lost:
                    raise
                # It was on its way when the caller left: what is held for nobody goes with a stack, or within the hour.
                with suppress(NotFoundError):  # it has gone meanwhile
                    await parts.layers.unstack([[await parts.layers.stack([diff_id])]])
                await _until_empty(parts.disk.layers)

    async def test_the_driver_in_use_is_told_with_the_reasons(self, parts: Parts) -> None:
        report = await parts.layers.drivers()
        assert report.driver in ("erofs", "overlayfs", "native")
        assert {driver.name for driver in report.drivers} >= {"overlayfs", "native"}
        assert all(driver.reason for driver in report.drivers)


async def _until_empty(directory: Path, deadline_s: float = 60) -> None:
    async with asyncio.timeout(deadline_s):
        while any(directory.iterdir()):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)
