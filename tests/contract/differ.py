"""Behaviours that any differ owes: run on each driver, and through servicer and client."""

import asyncio
import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import (
    InvalidArgumentError,
    NotFoundError,
)
from sampan.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from sampan.oci.digest import Digest
from sampan.resource.snapshot import ChangeKind, Mount
from sampan.resource.storage.snapshots import Differ
from tests.support.snapshotter import Kit, Parts, finished, names, shown, tar


@pytest.mark.root
class DifferContract:
    """Subclasses give ``parts``."""

    promises: tuple[type, ...] = (Differ,)

    @pytest.fixture
    def kit(self, parts: Parts) -> Kit:
        return Kit(parts)

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
        async with asyncio.timeout(60):
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
