"""What runtimed says of the disk: every byte below the data root that no other service speaks for."""

import os
from pathlib import Path

from runtimed.stats.disk_usage import RuntimeUsage
from sampan.disk import StoredObject

ID = "c" * 64


def file(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def du(path: Path) -> int:
    return path.lstat().st_blocks * 512 + sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))


async def look(root: Path) -> dict[tuple[str, str], StoredObject]:
    usage = RuntimeUsage(root, root / "runtimed", lambda: {ID: "web"})
    return {(one.kind, one.id): one async for page in usage.objects() for one in page}


async def test_everything_but_what_others_speak_for_is_named_and_measured(tmp_path: Path) -> None:
    file(tmp_path / "runtimed/containers" / ID / "container.log", 50_000)
    file(tmp_path / "runtimed/containers" / ("d" * 64) / "hosts", 10)
    file(tmp_path / "runtimed/volumes/data/_data/deep/er/file", 100_000)
    file(tmp_path / "runtimed/volumes/.gone-old/_data/file", 9_000)
    file(tmp_path / "runtimed/metadata.db", 20_000)
    file(tmp_path / "imaged/blobs/x", 1_000_000)
    file(tmp_path / "dockerapi/lock", 5)
    file(tmp_path / "registryd/registry.db", 30_000)
    file(tmp_path / "engine.lock", 5)
    file(tmp_path / "backup/old.tar", 40_000)
    (tmp_path / "link").symlink_to("/usr")
    found = await look(tmp_path)
    assert sum(one.size_bytes for one in found.values()) == du(tmp_path) - du(tmp_path / "imaged")
    held = {key: (one.holders[0].kind, one.holders[0].id, one.holders[0].names) for key, one in found.items()}
    assert held == {
        ("container", ID): ("container", ID, ("web",)),
        ("container", "d" * 64): ("container", "d" * 64, ()),
        ("volume", "data"): ("volume", "data", ()),
        ("trash", "volumes/.gone-old"): ("service", "runtimed", ()),
        ("records", "metadata.db"): ("service", "runtimed", ()),
        ("records", "directories"): ("service", "runtimed", ()),
        ("records", "data root"): ("service", "engine", ()),
        ("records", "engine.lock"): ("service", "engine", ()),
        ("records", "dockerapi"): ("service", "dockerapi", ()),
        ("records", "registryd"): ("service", "registryd", ()),
        ("foreign", "backup"): ("foreign", "", ()),
        ("foreign", "link"): ("foreign", "", ()),
    }
    assert found["volume", "data"].size_bytes == du(tmp_path / "runtimed/volumes/data")


async def test_file_with_two_names_counts_once(tmp_path: Path) -> None:
    file(tmp_path / "runtimed/volumes/data/_data/one", 100_000)
    before = (await look(tmp_path))["volume", "data"].size_bytes
    os.link(tmp_path / "runtimed/volumes/data/_data/one", tmp_path / "runtimed/volumes/data/_data/two")
    assert (await look(tmp_path))["volume", "data"].size_bytes == before
