"""What lies about on disk keeps the snapshotter from nothing: what cannot be moved away is set aside."""

from pathlib import Path

import pytest

from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from snapshotter.drivers.erofs.mounts import ErofsMounts
from snapshotter.snapshots.catalog import Catalog
from snapshotter.snapshots.directories import Disk


async def recover(root: Path) -> SetAside:
    set_aside = SetAside()
    async with Store(root / "metadata.db", "snapshotter.schema", durable=False) as store:
        await Catalog(store, Disk(root), ErofsMounts(root / "m", ())).recover(set_aside)
    return set_aside


async def test_what_cannot_be_moved_to_the_trash_is_set_aside_and_the_rest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("tmp/stuck", "tmp/loose", "s/7", "l/8"):
        (tmp_path / place).mkdir(parents=True)
    rename = Path.rename

    def renaming(self: Path, target: Path) -> Path:
        if self.name in ("stuck", "7"):
            raise OSError(16, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renaming)
    found = await recover(tmp_path)
    assert sorted((each.kind, each.id) for each in found) == [("leftover", "s/7"), ("leftover", "stuck")]
    assert sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.glob("[tls]*/[sl78]*") if "trash" not in str(path)
    ) == [
        "s/7",
        "tmp/stuck",
    ]
    monkeypatch.undo()
    assert list(await recover(tmp_path)) == []


async def test_a_layer_and_a_snapshot_that_vanished_are_set_aside(tmp_path: Path) -> None:
    await recover(tmp_path)
    digest = "sha256:" + "a" * 64
    async with Store(tmp_path / "metadata.db", "snapshotter.schema", durable=False) as store:
        await store.write(
            lambda db: db.execute(
                "INSERT INTO layers (diff_id, dir_id, format, size_bytes, inodes, complete, applied_at_ns, holds,"
                " held_until_ns, erofs_digest) VALUES (?, 1, 'tree', 0, 0, 0, 0, 1, 9000000000000000000, '')",
                (digest,),
            )
        )
    assert [(each.kind, each.id) for each in await recover(tmp_path)] == [("layer", digest)]
