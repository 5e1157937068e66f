"""Files of real trees: mounted, changed and frozen by workers, with a real snapshotter below."""

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildd.files.index import give_stamp
from buildd.fileworker.conversation import Workers
from buildd.fileworker.files import Files
from buildd.fileworker.jobs import Hold, Place
from buildd.freezes import Freezes
from buildd.llb.ops import (
    NO_INPUT,
    Copy,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    Owner,
    Remove,
    UserName,
)
from buildd.protocol import Directory, Output, Selection, Tree
from buildd.trees import LABEL, SnapshotTrees
from sampan.errors import InvalidArgumentError, NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from tests.contract.build_files import FileParts, FileWorkerContract
from tests.contract.build_parts import TreeParts, TreesContract
from tests.fakes.build_storage import FakeBuildStorage, FakeLeases
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Kit, Parts, local, over_grpc, shown, tar
from tests.support.tools import eventually
from tests.unit.buildd.files.places import fill, like_dockerfile

pytestmark = pytest.mark.root

PASSWD = "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n"


@dataclass
class Context:
    """A step's, as far as files need one."""

    vertex: Digest | None = None
    logged: list[bytes] = field(default_factory=list)

    def log(self, data: bytes, stream: int = 1) -> None:
        self.logged.append(data)


class World:
    def __init__(self, parts: Parts, scratch: Path) -> None:
        self.parts = parts
        leases = FakeLeases(FakeBuildStorage())
        freezes = Freezes(SimpleNamespace(leases=leases, layers=parts.layers, differ=parts.differ))
        self.trees = SnapshotTrees(parts, freezes)
        self.workers = Workers(scratch, idle_s=1)
        self.files = Files(self.trees, self.workers)
        self.context = Context()

    async def tree(self, *layers: bytes) -> Tree:
        kit = Kit(self.parts)
        return Tree(tuple(Layer(*kit.blob(layer)) for layer in layers))

    async def change(self, inputs: Sequence[Output], *actions: FileAction) -> Tree:
        (tree,) = await self.files.change(FileOp(actions), inputs, self.context)  # type: ignore[arg-type]
        return tree

    async def copied(self, inputs: Sequence[Output], op: Copy) -> Tree:
        return await self.change(inputs, FileAction(op, 0, 1, 0))

    async def snapshots(self) -> list[str]:
        await self.trees.close()
        return [each.key for each in await self.parts.snapshots.list([f'labels."{LABEL}"'])]


@pytest.fixture(params=["erofs", "overlayfs", "native"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with local(tmp_path / "s", request.param, FakeContent()) as parts, over_grpc(parts) as remote:
        world = World(remote, scratch)
        try:
            yield world
            assert await world.snapshots() == []
        finally:
            await world.workers.close()
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def workers() -> list[int]:
    """The pids of workers of ours: children of the process that they are forked from."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it has just ended
            if b"buildd.fileworker.fork_server" in (entry / "cmdline").read_bytes().split(b"\0"):
                found[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b") ")[2].split()[1])
    return [pid for pid, parent in found.items() if found.get(parent) == os.getpid()]


async def test_a_copy_makes_a_layer_that_holds_just_what_it_changed(world: World, tmp_path: Path) -> None:
    base = await world.tree(tar(etc=None, etc__passwd=PASSWD), tar(a="old", b="stays"))
    context = Directory(fill(tmp_path / "context", {"a": "new", "d/x": "X"}))
    made = await world.copied([base, context], like_dockerfile("/", "/"))
    assert made.layers[:2] == base.layers
    assert len(made.layers) == 3
    content = world.parts.content.blobs[made.layers[2].descriptor.digest]
    with tarfile.open(fileobj=io.BytesIO(content)) as layer:
        assert {each.name for each in layer} - {""} == {"a", "d", "d/x"}
    assert [await world.files.read_file(made, path) for path in ("/a", "/b", "/d/x")] == [b"new", b"stays", b"X"]
    again = await world.copied([base, context], like_dockerfile("/", "/"))
    assert again == made


async def test_a_step_that_changes_nothing_makes_no_layer(world: World, tmp_path: Path) -> None:
    base = await world.tree(tar(a="A"))
    made = await world.copied([base, Directory(fill(tmp_path / "c", {}))], like_dockerfile("/no*", "/"))
    assert (made, made.unchanged) == (base, (1,))


async def test_actions_follow_each_other_and_from_nothing(world: World) -> None:
    made = await world.change(
        [],
        FileAction(MakeDirectory("/d", 0o750)),
        FileAction(MakeFile("/d/a", 0o640, b"A"), 0),
        FileAction(MakeSymlink("a", "/d/l"), 1),
        FileAction(MakeFile("/gone", 0o640, b""), 2),
        FileAction(Remove("/gone"), 3, output=0),
    )
    assert [(each.path, each.link_name) for each in await world.files.read_directory(made, "/d")] == [
        ("a", ""), ("l", "a"),
    ]  # fmt: skip
    assert [each.path for each in await world.files.read_directory(made, "/")] == ["d"]
    copied = await world.change([made], FileAction(like_dockerfile("/d", "/e"), NO_INPUT, 0, 0))
    assert await world.files.read_file(copied, "/e/l") == b"A"
    with pytest.raises(NotFoundError, match='"/d": not found'):
        await world.change([made], FileAction(like_dockerfile("/d", "/e"), 0, NO_INPUT, 0))


async def test_removals_hide_what_is_below(world: World) -> None:
    base = await world.tree(tar(d=None, d__a="A", d__b="B"))
    made = await world.change([base], FileAction(Remove("/d/a"), 0, output=0))
    assert [each.path for each in await world.files.read_directory(made, "/d")] == ["b"]
    replaced = await world.change(
        [base], FileAction(Remove("/d"), 0), FileAction(MakeDirectory("/d", 0o755), 1, output=0)
    )
    assert list(await world.files.read_directory(replaced, "/d")) == []


async def test_owners_by_name_and_number(world: World, tmp_path: Path) -> None:
    base = await world.tree(tar(etc=None, etc__passwd=PASSWD, etc__group="staff:x:50:\n"))
    context = Directory(fill(tmp_path / "c", {"d/a": "A", "d/l": "-> a"}))
    owner = Owner(UserName("app", 0), UserName("staff", 0))
    made = await world.copied([base, context], like_dockerfile("/d", "/new/x/", owner=owner))
    for path in ("/new", "/new/x", "/new/x/a", "/new/x/l"):
        found = await world.files.stat(made, path)
        assert (found.uid, found.gid) == (1000, 50), path
    made = await world.copied([base, context], like_dockerfile("/d", "/x", owner=Owner(UserName("nobody", 0))))
    assert (await world.files.stat(made, "/x/a")).uid == 0
    assert world.context.logged == [b"user nobody is not in /etc/passwd: its files belong to root\n"]


async def test_owner_clears_no_bit_and_no_capability(world: World, tmp_path: Path) -> None:
    source = fill(tmp_path / "c", {"a": "A"})
    (source / "a").chmod(0o4755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(source / "a", "security.capability", capability)
    made = await world.copied([Tree(), Directory(source)], like_dockerfile("/", "/", owner=Owner(UserName(number=5))))
    found = await world.files.stat(made, "/a")
    assert found.mode == 0o755 | 1 << 23
    assert found.xattrs["security.capability"] == capability


async def test_devices_are_copied_and_used_by_nobody(world: World, tmp_path: Path) -> None:
    source = fill(tmp_path / "c", {"a": "A"})
    os.mknod(source / "null", stat.S_IFCHR, os.makedev(1, 3))
    (source / "null").chmod(0o620)
    made = await world.copied([Tree(), Directory(source)], like_dockerfile("/", "/"))
    found = await world.files.stat(made, "/null")
    assert (found.mode, found.dev_major, found.dev_minor) == (0o620 | 1 << 26 | 1 << 21, 1, 3)
    with pytest.raises(InvalidArgumentError):
        await world.files.read_file(made, "/null")


async def test_a_checksum_is_of_the_files_and_not_of_the_layers(world: World, tmp_path: Path) -> None:
    two, one = await world.tree(tar(a="A"), tar(b="B")), await world.tree(tar(b="B", a="A"))
    assert await world.files.checksum(two, Selection("/a")) == await world.files.checksum(one, Selection("/a"))
    first = await world.files.checksum(two, Selection("/?", wildcard=True))
    assert first == await world.files.checksum(one, Selection("/?", wildcard=True))
    with pytest.raises(NotFoundError, match=r'^"/c": not found$'):
        await world.files.checksum(one, Selection("/c"))
    assert await world.files.checksum(Tree(), Selection()) == await world.files.checksum(Tree(), Selection())


async def test_a_stamp_spares_a_look(world: World, tmp_path: Path) -> None:
    context = fill(tmp_path / "context", {"a": "A"})
    before = await world.files.checksum(Directory(context), Selection())
    give_stamp(context)
    assert await world.files.checksum(Directory(context), Selection()) == before
    (context / "a").write_text("changed behind its back")
    assert await world.files.checksum(Directory(context), Selection()) == before
    give_stamp(context)
    assert await world.files.checksum(Directory(context), Selection()) != before


async def test_flat_is_a_layer_of_all(world: World, tmp_path: Path) -> None:
    context = Directory(fill(tmp_path / "context", {"a": "A", "d/e": None}))
    flat = await world.files.flatten(context)
    assert len(flat.layers) == 1
    assert await world.files.flatten(flat) is flat
    assert await world.files.checksum(flat, Selection("/a")) == await world.files.checksum(context, Selection("/a"))


async def test_tar_and_mounts_of_several(world: World, tmp_path: Path) -> None:
    outputs: dict[str, Output] = {
        "linux_amd64": await world.tree(tar(a="A")),
        "linux_arm64": Directory(fill(tmp_path / "c", {"b": "B" * 3_000_000})),
        "none": Tree(),
    }
    data = b"".join([piece async for piece in world.files.tar(outputs)])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert sorted(archive.getnames()) == ["linux_amd64", "linux_amd64/a", "linux_arm64", "linux_arm64/b", "none"]
    async with world.files.mounted(outputs) as place:
        assert (place / "linux_amd64/a").read_text() == "A"
        assert (place / "linux_arm64/b").stat().st_size == 3_000_000
        with pytest.raises(OSError, match="Read-only"):
            (place / "linux_arm64/new").write_text("")
    assert not place.exists()
    async with world.files.mounted({"": outputs["linux_amd64"]}) as place:
        assert os.listdir(place) == ["a"]


async def test_who_stops_reading_a_tar_ends_the_work(world: World, tmp_path: Path) -> None:
    context = Directory(fill(tmp_path / "c", {"b": "B" * 30_000_000}))
    pieces = world.files.tar({"": context})
    await anext(pieces)
    assert len(workers()) == 1
    await pieces.aclose()
    eventually(lambda: not workers(), "the worker is gone")


async def test_a_worker_that_is_killed_leaves_nothing_and_says_so(world: World) -> None:
    base = await world.tree(tar(a="A"))
    async with world.files.mounted({"": base}) as place:
        os.kill(int(place.parts[2]), 9)
        eventually(lambda: not place.exists(), "the worker is gone")
    async with world.workers.talk(Hold((("", Place()),))) as worker:
        held = await worker.answer()
        os.kill(int(str(held.value).split("/")[2]), 9)
        with pytest.raises(UnavailableError, match="was killed by SIGKILL"):
            await worker.answer()


async def test_cancelled_work_is_killed(world: World, tmp_path: Path) -> None:
    source = tmp_path / "c"
    source.mkdir()
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 40)
    checksum = asyncio.create_task(world.files.checksum(Directory(source), Selection()))
    await asyncio.to_thread(eventually, lambda: len(workers()) == 1, "a worker is at work")
    checksum.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checksum
    eventually(lambda: not workers(), "the worker is gone")


async def test_a_start_removes_what_the_last_builder_left(world: World) -> None:
    base = await world.tree(tar(a="A"))
    chain = await world.trees.ready(base)
    await world.parts.snapshots.prepare("left", chain, {LABEL: "step"})
    await world.parts.snapshots.view("left too", chain, {LABEL: "view"})
    await world.parts.snapshots.prepare("somebody's", chain, {})
    await world.trees.recover()
    assert await world.snapshots() == []
    await world.parts.snapshots.remove("somebody's")


async def test_a_stack_that_was_collected_is_made_again(world: World) -> None:
    base = await world.tree(tar(a="A"), tar(b="B"))
    chain = await world.trees.ready(base)
    assert await world.trees.ready(base) == chain
    await world.parts.layers.unstack([[base.layers[0].diff_id, chain]])
    assert await world.files.read_file(base, "/b") == b"B"
    assert await world.trees.ready(Tree()) == ""


async def test_a_layer_that_is_nowhere(world: World) -> None:
    gone = Tree((Layer(*Kit(world.parts).blob(tar(a="A"))),))
    world.parts.content.blobs.clear()
    with pytest.raises(NotFoundError):
        await world.trees.ready(gone)


class TestFiles(FileWorkerContract):
    @pytest.fixture
    def parts(self, world: World, tmp_path: Path) -> FileParts:
        def directory(files: dict[str, bytes]) -> Directory:
            place = tmp_path / f"directory-{len(list(tmp_path.iterdir()))}"
            for name, data in files.items():
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return Directory(place)

        return FileParts(world.files, directory, world.context)  # type: ignore[arg-type]


class TestSnapshotTrees(TreesContract):
    @pytest.fixture
    async def parts(self, world: World) -> TreeParts:
        async def write(key: str) -> None:
            with shown(await world.parts.snapshots.mounts(key)) as root:
                (root / "made").touch()

        return TreeParts(world.trees, await world.tree(tar(base="1")), write)
