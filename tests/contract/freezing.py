"""What freezing a snapshot owes: the stored layer and the blob are the same, and nothing is lost at any moment."""

import asyncio
import gzip
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import ConflictError, DataLossError, NotFoundError, UnavailableError
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.snapshot import NewLayer
from sampan.resource.storage.snapshots import Differ
from snapshotter.drivers.whiteouts import OPAQUE_XATTR
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Kit, Parts, finished, local, names, shown, tar

# struct vfs_cap_data of linux/capability.h, revision 2: CAP_NET_RAW.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
HOST = ("security.selinux", "security.ima", "security.evm")


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """Return all that a layer says, by path; hard links by their first name."""
    first: dict[int, str] = {}
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(_below(root)):
        status, name = path.lstat(), str(path.relative_to(root))
        xattrs = {
            xattr: os.getxattr(path, xattr, follow_symlinks=False)
            for xattr in os.listxattr(path, follow_symlinks=False)
            if xattr not in HOST
        }
        content: object = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        attributes = () if is_whiteout else (status.st_uid, status.st_gid, status.st_mtime_ns)
        # overlayfs makes one whiteout and links it wherever it needs one.
        linked = "" if is_whiteout or stat.S_ISDIR(status.st_mode) else first.setdefault(status.st_ino, name)
        found[name] = (oct(status.st_mode), status.st_rdev, attributes, xattrs, content, linked)
    return found


def _below(root: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(root):
        yield from (Path(directory) / name for name in (*directories, *files))


def meddle(root: Path) -> None:
    """Change a root of ``LOWER`` in all the ways that a layer can tell, and in some that it cannot."""
    (root / "kept").touch()  # a new time, and so a new file
    os.chmod(root / "same", 0o600)
    os.chmod(root / "same", 0o644)  # copied up, and as it was
    (root / "gone").unlink()
    (root / "d/x").unlink()
    (root / "again/x").unlink()
    (root / "again").rmdir()
    (root / "again").mkdir()
    (root / "again/new").write_text("new")
    (root / "file-to-dir").unlink()
    (root / "file-to-dir").mkdir(mode=0o711)
    (root / "file-to-dir/x").write_text("x")
    (root / "dir-to-link/x").unlink()
    (root / "dir-to-link").rmdir()
    (root / "dir-to-link").symlink_to("d")
    new = root / "new"
    new.mkdir()
    os.chown(new, 12, 34)
    (new / "short-lived").write_text("")
    (new / "short-lived").unlink()
    (new / "file").write_bytes(b"data" * 1000)
    os.chmod(new / "file", 0o4755)
    os.setxattr(new / "file", "security.capability", CAPABILITY)
    os.setxattr(new / "file", "user.note", b"hello")
    os.link(new / "file", new / "linked")
    os.link(new / "file", root / "linked-too")
    os.mknod(new / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(new / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.mkfifo(new / "fifo")
    os.symlink("/nowhere", new / "link")
    os.utime(new / "link", ns=(1, 1_500_000_000_123_456_789), follow_symlinks=False)
    with open(new / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
    (new / "odd\udcff\nname").write_text("odd")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
    (root / "proc").mkdir()
    (root / "proc/inside").write_text("left out")
    (root / "etc/hosts").write_text("left out")


LOWER = {
    "kept": "1", "same": "same", "gone": "1", "d": None, "d/x": "1", "d/y": "1", "again": None, "again/x": "1",
    "file-to-dir": "1", "dir-to-link": None, "dir-to-link/x": "1", "etc": None, "etc/passwd": "root",
}  # fmt: skip
EXCLUDED = ("/proc", "/etc/hosts")


@pytest.mark.root
class FreezeContract:
    """Subclasses give ``parts``."""

    promises: tuple[type, ...] = (Differ,)

    @pytest.fixture
    def kit(self, parts: Parts) -> Kit:
        return Kit(parts)

    async def lower(self, kit: Kit) -> tuple[Digest, str]:
        diff_id = await kit.apply(tar(**LOWER))
        return diff_id, await kit.parts.layers.stack([diff_id])

    async def test_what_is_stored_is_what_the_blob_says(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            meddle(root)
        with shown(await parts.snapshots.mounts("step")) as root:
            wanted = facts(root)
        layer = await parts.differ.freeze("step", EXCLUDED)
        assert layer is not None
        packed = gzip.decompress(parts.content.blobs[layer.descriptor.digest])
        assert layer.diff_id == Digest.of(packed)
        assert layer.descriptor.size == len(parts.content.blobs[layer.descriptor.digest])
        with shown(await parts.snapshots.view("look", await parts.layers.stack([base, layer.diff_id]), {})) as root:
            shows = facts(root)
        for left_out in ("proc", "proc/inside", "etc/hosts", "socket"):
            del wanted[left_out]
        # Directories have the times that they had when they were read, and the root is nobody's.
        assert {name: _timeless(one) for name, one in shows.items()} == {
            name: _timeless(one) for name, one in wanted.items()
        }
        elsewhere = await _unpacked(parts, layer)
        if (await parts.layers.drivers()).driver != "native":
            (stored,) = [path for path in parts.disk.layers.iterdir() if (path / "new/file").exists()]
            assert facts(stored) == elsewhere
            assert "same" not in elsewhere
            assert elsewhere["again"][3] == {OPAQUE_XATTR: b"y"}
            assert layer.size_bytes >= 4096 * len(elsewhere) // 2

    async def test_the_snapshot_is_gone_and_its_name_free(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1")
        layer = await parts.differ.freeze("step", ())
        assert layer is not None
        with pytest.raises(NotFoundError):
            await parts.snapshots.stat("step")
        assert list(parts.disk.snapshots.iterdir()) == []
        above = await parts.layers.stack([base, layer.diff_id])
        await parts.snapshots.prepare("step", above, {})
        assert await parts.differ.freeze("step", ()) is None  # nothing was changed this time

    async def test_a_lost_answer_can_be_asked_for_again(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1")
        await parts.snapshots.prepare("nothing", chain, {})
        layer = await parts.differ.freeze("step", ())
        assert await parts.differ.freeze("step", ()) == layer
        assert await parts.differ.freeze("nothing", ()) is None
        assert await parts.differ.freeze("nothing", ()) is None
        assert layer is not None
        stacked = await parts.layers.stack([base, layer.diff_id])
        assert await parts.differ.freeze("step", ()) == layer
        await parts.layers.unstack([[stacked]])
        with pytest.raises(NotFoundError, match="which is gone"):
            await parts.differ.freeze("step", ())

    async def test_a_content_store_that_goes_away_meanwhile_is_waited_for(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1" * (1 << 20))
            (root / "d" / "x").unlink()
        parts.content.goes_away = 1
        layer = await parts.differ.freeze("step", ())
        assert layer is not None
        assert Digest.of(gzip.decompress(parts.content.blobs[layer.descriptor.digest])) == layer.diff_id
        assert parts.content.taken == {}
        await parts.layers.stack([base, layer.diff_id])

    async def test_a_content_store_that_goes_away_twice_leaves_the_snapshot(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1" * (1 << 20))
        parts.content.goes_away = 2
        with pytest.raises(UnavailableError, match="content store"):
            await parts.differ.freeze("step", ())
        assert await parts.differ.freeze("step", ()) is not None

    async def test_only_active_snapshots_are_frozen(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        await parts.snapshots.view("look", chain, {})
        with pytest.raises(ConflictError, match="only an active one"):
            await parts.differ.freeze("look", ())
        with pytest.raises(NotFoundError):
            await parts.differ.freeze("missing", ())

    async def test_a_snapshot_of_nothing_but_what_is_left_out_is_dropped(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "etc/hosts").write_text("")
            (root / "proc").mkdir()
        assert await parts.differ.freeze("step", EXCLUDED) is None
        assert await parts.snapshots.list(["name==step"]) == []
        assert parts.content.taken == {}

    async def test_the_same_files_are_the_same_layer_stored_once(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        for key in ("one", "two"):
            with shown(await parts.snapshots.prepare(key, chain, {})) as root:
                (root / "new").mkdir()
                for name in ("b", "a") if key == "one" else ("a", "b"):
                    (root / "new" / name).write_text(name)
                    os.utime(root / "new" / name, ns=(0, 10**18))
                os.utime(root / "new", ns=(0, 10**18))
        first, second = await parts.differ.freeze("one", ()), await parts.differ.freeze("two", ())
        assert first is not None
        assert first == second
        assert len(list(parts.disk.layers.iterdir())) == 2
        assert list(parts.disk.snapshots.iterdir()) == []
        with shown(await parts.snapshots.view("look", await parts.layers.stack([base, first.diff_id]), {})) as root:
            assert names(root / "new") == ["a", "b"]

    async def test_no_time_is_later_than_it_may_be(self, kit: Kit, parts: Parts) -> None:
        found = []
        for key in ("one", "two"):
            base, chain = await self.lower(kit)
            with shown(await parts.snapshots.prepare(key, chain, {})) as root:
                (root / "new").mkdir()
                (root / "new/file").write_text("1")
                os.symlink("file", root / "new/link")
                (root / "new/old").write_text("old")
                os.utime(root / "new/old", ns=(0, 10**18))
            layer = await parts.differ.freeze(key, (), rewrite_timestamp=1_600_000_000)
            assert layer is not None
            found.append(layer)
        assert found[0] == found[1]
        stack = await parts.layers.stack([base, found[0].diff_id])
        with shown(await parts.snapshots.view("look", stack, {})) as root:
            times = {name: (root / "new" / name).lstat().st_mtime_ns for name in (".", "file", "link", "old")}
        epoch = 1_600_000_000 * 10**9
        assert times == {".": epoch, "file": epoch, "link": epoch, "old": 10**18}

    async def test_many_at_once_of_one_key_are_one(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1")
        answers = await asyncio.gather(*(parts.differ.freeze("step", ()) for _ in range(4)))
        assert answers[0] is not None
        assert set(answers) == {answers[0]}

    async def test_a_large_layer_gets_its_blob_when_somebody_wants_one(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        for key in ("now", "later"):
            with shown(await parts.snapshots.prepare(key, chain, {})) as root:
                meddle(root)
                for path in (root, *_below(root)):
                    os.utime(path, ns=(0, 10**18 + 1), follow_symlinks=False)
        at_once = await parts.differ.freeze("now", EXCLUDED, defer_bytes=1 << 40)
        assert at_once is not None
        assert Digest.of(gzip.decompress(parts.content.blobs.pop(at_once.descriptor.digest))) == at_once.diff_id
        before = dict(parts.content.blobs)
        later = await parts.differ.freeze("later", EXCLUDED, defer_bytes=1)
        assert later is not None
        assert later.diff_id == at_once.diff_id
        if (await parts.layers.drivers()).driver == "native":
            assert later == at_once  # whose layers are unpacked of their blobs
        else:
            packed_bytes = later.descriptor.size
            assert later.descriptor == Descriptor(OCI_LAYER, later.diff_id, packed_bytes)
            assert (parts.content.blobs, parts.content.taken) == (before, {})
            assert await parts.differ.freeze("later", EXCLUDED) == later
            assert await parts.differ.pack(later.diff_id) == at_once.descriptor
            assert len(gzip.decompress(parts.content.blobs[at_once.descriptor.digest])) == packed_bytes
            assert parts.content.labels[at_once.descriptor.digest] == {"containerd.io/uncompressed": later.diff_id}
        with shown(await parts.snapshots.view("look", await parts.layers.stack([base, later.diff_id]), {})) as root:
            assert (root / "new/file").stat().st_nlink == 3
            assert not (root / "gone").exists()

    async def test_nothing_large_is_nothing(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "proc").mkdir()
            (root / "proc/inside").write_text("left out")
        assert await parts.differ.freeze("step", EXCLUDED, defer_bytes=1) is None
        assert await parts.snapshots.list(["name==step"]) == []

    async def test_no_blob_is_made_of_a_layer_that_is_not_what_it_was(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1")
        layer = await parts.differ.freeze("step", (), defer_bytes=1)
        assert layer is not None
        before = set(parts.content.blobs)
        if (await parts.layers.drivers()).driver != "native":
            (stored,) = [path for path in parts.disk.layers.iterdir() if (path / "new").exists()]
            (stored / "new").write_text("2")
            with pytest.raises(DataLossError, match=f"no blob can be made of layer {layer.diff_id}"):
                await parts.differ.pack(layer.diff_id)
        with pytest.raises(NotFoundError, match="is not stored"):
            await parts.differ.pack(Digest.of(b"missing"))
        assert (set(parts.content.blobs), parts.content.taken) == (before, {})

    async def test_packing_waits_for_a_content_store_that_goes_away(self, kit: Kit, parts: Parts) -> None:
        _, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            (root / "new").write_text("1" * (1 << 20))
        layer = await parts.differ.freeze("step", (), defer_bytes=1)
        assert layer is not None
        parts.content.goes_away = 1
        made = await parts.differ.pack(layer.diff_id)
        assert Digest.of(gzip.decompress(parts.content.blobs[made.digest])) == layer.diff_id
        assert parts.content.taken == {}

    async def test_a_layer_of_more_files_than_are_synced_one_by_one(self, kit: Kit, parts: Parts) -> None:
        base, chain = await self.lower(kit)
        with shown(await parts.snapshots.prepare("step", chain, {})) as root:
            for number in range(200):
                (root / f"{number}").write_text(str(number))
        layer = await parts.differ.freeze("step", ())
        assert layer is not None
        with shown(await parts.snapshots.view("look", await parts.layers.stack([base, layer.diff_id]), {})) as root:
            assert (root / "199").read_text() == "199"


def _timeless(one: tuple[object, ...]) -> tuple[object, ...]:
    mode, rdev, attributes, xattrs, content, linked = one
    assert isinstance(attributes, tuple)
    is_directory = str(mode).startswith("0o4")
    return mode, rdev, attributes[:2] if is_directory else attributes, xattrs, content, linked


async def _unpacked(parts: Parts, layer: NewLayer) -> dict[str, tuple[object, ...]]:
    """Return what another engine makes of the blob."""
    content = FakeContent()
    content.add(parts.content.blobs[layer.descriptor.digest])
    with tempfile.TemporaryDirectory() as place:
        async with local(Path(place) / "other", "overlayfs", content) as other:
            await finished(other.layers.apply(layer.descriptor, layer.diff_id))
            (tree,) = other.disk.layers.iterdir()
            return facts(tree)
