"""Garbage collection of stacks and layers on a real disk: what goes, what stays, and what happens at the same time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sampan.disk import CONTAINER, HOLD, IMAGE, LEASE, ORPHAN, SERVICE, SNAPSHOT, WRITER, Holder, Root, StoredObject
from sampan.errors import NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from snapshotter.gc.collector import LayerCollector
from snapshotter.gc.usage import LayerUsage
from snapshotter.layers.layers import LocalLayers
from snapshotter.snapshots.catalog import Catalog
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Kit, Parts, local, shown, tar

pytestmark = pytest.mark.root


@dataclass
class Images:
    """Satisfies ``RootSource``: names, and leases that end when a name is given."""

    named: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    leased: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    meanwhile: Callable[[], Awaitable[object]] | None = None  # done once, after the roots were looked at
    down: bool = False

    async def roots(self) -> list[Root]:
        if self.down:
            raise UnavailableError("imaged does not answer")
        found = [Root(Holder(IMAGE, name, (name,)), tuple(layers)) for name, layers in self.named.items()]
        found += [Root(Holder(LEASE, name), tuple(layers)) for name, layers in self.leased.items()]
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


@dataclass
class Lab:
    """A snapshotter, and images that somebody else knows."""

    parts: Parts
    kit: Kit
    images: Images
    catalog: Catalog
    collector: LayerCollector

    async def gc(self, *, leftovers: bool = False) -> dict[str, int]:
        freed = await self.collector.collect(leftovers=leftovers)
        return {kind: one.count for kind, one in freed.items() if one.count}

    async def objects(self) -> list[StoredObject]:
        return [one async for page in self.collector.objects(measure=True) for one in page]

    async def owners(self, kind: str = "layer") -> list[str]:
        return sorted(one.owner for one in await self.objects() if one.kind == kind)

    async def stands(self, chain_id: str) -> bool:
        try:
            await self.parts.snapshots.stat(chain_id)
        except NotFoundError:
            return False
        return True

    async def layers(self, *texts: str) -> tuple[Digest, ...]:
        return tuple([await self.kit.apply(tar(**{text: text * 3000})) for text in texts])


@pytest.fixture(params=["erofs", "overlayfs"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with local(tmp_path / "root", request.param, FakeContent()) as parts:
        assert isinstance(parts.layers, LocalLayers)
        catalog = parts.layers._catalog
        images = Images()
        usage = LayerUsage(catalog, images)
        yield Lab(parts, Kit(parts), images, catalog, LayerCollector(catalog, images, usage))


async def test_a_stack_without_an_image_goes_with_its_layers(lab: Lab) -> None:
    web = lab.images.named["web:1"] = await lab.layers("a", "b")
    kept = await lab.parts.layers.stack(web)
    left = await lab.parts.layers.stack([*web, *await lab.layers("c")])
    assert await lab.owners() == [IMAGE, IMAGE, ORPHAN]
    assert await lab.gc() == {"snapshot": 1, "layer": 1}
    assert await lab.stands(kept)
    assert not await lab.stands(left)
    assert len(list(lab.parts.disk.layers.iterdir())) == 2
    assert await lab.owners() == [IMAGE, IMAGE]
    assert await lab.gc() == {}


async def test_a_lease_keeps_a_stack_whose_image_has_no_name_yet(lab: Lab) -> None:
    layers = lab.images.leased["pull"] = await lab.layers("a")
    chain = await lab.parts.layers.stack(layers)
    assert await lab.gc(leftovers=True) == {}
    assert await lab.owners() == [LEASE]
    lab.images.leased.clear()
    assert await lab.gc() == {"snapshot": 1, "layer": 1}
    assert not await lab.stands(chain)


async def test_a_container_keeps_the_layers_of_an_image_that_is_gone(lab: Lab) -> None:
    chain = await lab.parts.layers.stack(await lab.layers("a", "b"))
    with shown(await lab.parts.snapshots.prepare("web", chain, {})) as root:
        (root / "new").write_text("new")
        assert await lab.gc(leftovers=True) == {}
        assert (root / "a").exists()
    assert await lab.owners() == [SNAPSHOT, SNAPSHOT]
    assert await lab.owners("snapshot") == [SNAPSHOT]
    await lab.parts.snapshots.remove("web")
    assert await lab.gc() == {"snapshot": 2, "layer": 2}


async def test_what_a_containerd_has_made_is_never_swept(lab: Lab) -> None:
    await lab.parts.snapshots.prepare("extract", None, {})
    await lab.parts.snapshots.commit("k8s.io/base", "extract", {})
    await lab.parts.snapshots.prepare("running", "k8s.io/base", {})
    await lab.parts.snapshots.prepare("extract", "k8s.io/base", {})
    await lab.parts.snapshots.commit("k8s.io/unused", "extract", {})
    assert await lab.gc(leftovers=True) == {}
    assert [snapshot.key for snapshot in await lab.parts.snapshots.list(())] == [
        "k8s.io/base",
        "running",
        "k8s.io/unused",
    ]


async def test_a_stack_that_is_asked_for_during_a_pass_stays(lab: Lab) -> None:
    """The roots were looked at before the pull began; its stack stood already, left over from another one."""
    layers = await lab.layers("a", "b")
    chain = await lab.parts.layers.stack(layers)
    lab.images.meanwhile = lambda: lab.parts.layers.stack(layers)
    assert await lab.gc() == {}
    lab.images.named["web:1"] = layers
    assert await lab.stands(chain)
    lab.images.named.clear()
    assert await lab.gc() == {"snapshot": 2, "layer": 2}


async def test_a_layer_that_is_applied_during_a_pass_can_be_stacked_after_it(lab: Lab) -> None:
    layers = await lab.layers("a")
    chain = await lab.parts.layers.stack(layers)
    lab.images.meanwhile = lambda: lab.layers("a")
    await lab.gc(leftovers=True)
    assert await lab.parts.layers.stack(layers) == chain


async def test_every_pass_ends_holds_on_layers_that_no_lease_needs(lab: Lab) -> None:
    (needed, _) = await lab.layers("a", "b")
    lab.images.leased["pull"] = (needed,)
    assert await lab.owners() == [HOLD, LEASE]
    assert await lab.gc() == {"layer": 1}
    assert await lab.owners() == [LEASE]
    assert await lab.gc(leftovers=True) == {}


async def test_nothing_goes_while_nobody_can_say_what_is_needed(lab: Lab) -> None:
    chain = await lab.parts.layers.stack(await lab.layers("a"))
    lab.images.down = True
    with pytest.raises(UnavailableError):
        await lab.gc()
    assert await lab.stands(chain)


async def test_what_has_no_row_goes_and_what_is_being_made_stays(lab: Lab) -> None:
    disk = lab.parts.disk
    number = await lab.catalog.number()
    (making := disk.layer(number)).mkdir()
    (making / "file").write_bytes(bytes(5000))
    for stray in (disk.layers / "0", disk.snapshots / "lost+found", disk.layers / "x", disk.layers / f"{number + 7}"):
        stray.mkdir()
        (stray / "file").write_bytes(bytes(5000))
    assert await lab.owners("stray") == [ORPHAN] * 4
    (made,) = [one for one in await lab.objects() if one.id == f"l/{number}"]
    assert (made.owner, made.size_bytes > 5000) == (WRITER, True)
    assert await lab.gc() == {"stray": 4}
    assert [*disk.layers.iterdir(), *disk.snapshots.iterdir()] == [making]


async def test_all_that_is_said_to_be_there_is_what_is_there(lab: Lab) -> None:
    web = lab.images.named["web:1"] = await lab.layers("a", "b")
    with shown(await lab.parts.snapshots.prepare("web", await lab.parts.layers.stack(web), {})) as root:
        (root / "big").write_bytes(bytes(100_000))
    await lab.parts.disk.empty_trash()
    mounts = lab.parts.disk.root / "m"  # they show what is stored, and are elsewhere in an engine
    async with asyncio.timeout(60):
        while True:  # between the two looks the kernel may have written something down, which changes what it takes
            said = [one for one in await lab.objects() if one.id != mounts.name]
            below = [path for path in lab.parts.disk.root.rglob("*") if not path.is_relative_to(mounts)]
            on_disk = sum(path.lstat().st_blocks * 512 for path in (lab.parts.disk.root, *below))
            if sum(one.size_bytes for one in said) == on_disk:
                break
            await asyncio.sleep(0.1)
    assert {one.owner for one in said} == {IMAGE, SNAPSHOT, SERVICE}
    assert CONTAINER not in {one.owner for one in said}, "a snapshotter knows no containers"


@pytest.mark.parametrize("seed", range(3))
async def test_passes_among_pulls_containers_and_removals_take_nothing_that_is_needed(lab: Lab, seed: int) -> None:
    """Stacks that share layers, each pulled, named, used and removed again and again, while passes run all the time."""
    choice = random.Random(seed)
    texts = ["a", "b", "c", "d"]
    stop = asyncio.Event()

    async def collect() -> None:
        while not stop.is_set():
            await lab.gc(leftovers=choice.random() < 0.5)
            await asyncio.sleep(0)

    async def live(name: str) -> None:
        for turn in range(4):
            wanted = choice.sample(texts, choice.randint(1, 3))
            diff_ids = [Digest.of(tar(**{text: text * 3000})) for text in wanted]
            lab.images.leased[name] = tuple(diff_ids)  # before anything is applied, as imaged does
            chain = await lab.parts.layers.stack(await lab.layers(*wanted))
            await asyncio.sleep(0)
            lab.images.named[name] = lab.images.leased.pop(name)
            await asyncio.sleep(choice.random() / 50)
            assert await lab.stands(chain)
            key = f"{name}-{turn}"
            await lab.parts.snapshots.prepare(key, chain, {})
            del lab.images.named[name]
            await asyncio.sleep(choice.random() / 50)
            with shown(await lab.parts.snapshots.mounts(key)) as root:
                assert sorted(path.name for path in root.iterdir()) == sorted(wanted)
            await lab.parts.snapshots.remove(key)

    collecting = asyncio.create_task(collect())
    await asyncio.wait_for(asyncio.gather(*(live(f"web{number}") for number in range(4))), 240)
    stop.set()
    await collecting
    await lab.gc(leftovers=True)
    assert await lab.parts.snapshots.list(()) == []
    assert list(lab.parts.disk.layers.iterdir()) == []
