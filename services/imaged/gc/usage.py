"""Everything that imaged has on disk, and who holds it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.ingest import Ingests
from imaged.content.partial import Partials
from imaged.gc import roots
from sampan.disk import FOREIGN, HOLD, IMAGE, LABEL, LEASE, REGISTRY, SERVICE, WRITER, Holder, StoredObject
from sampan.oci.digest import Digest
from sampan.store.database import Store
from sampan.sys.measuring import measure_any

# Blobs in one step, which is a read of the database and then a message.
_PAGE: Final = 500

# What is in them is counted by itself.
_DIRECTORIES: Final = ("blobs", "blobs/sha256", "ingests", "partials")

# Files looked at between two transactions of others.
_BATCH: Final = 500


async def drop_strays(store: Store, blobs: Path) -> tuple[int, ...]:
    """Remove files that have no record; return what each took on disk, in bytes."""
    names = sorted(await asyncio.to_thread(os.listdir, blobs))
    freed: list[int] = []
    for first in range(0, len(names), _BATCH):
        batch = names[first : first + _BATCH]

        # A file is placed and recorded in one transaction, and this runs between two of them.
        def remove(db: sqlite3.Connection, batch: list[str] = batch) -> None:
            for name in rows.unknown(db, batch):
                with suppress(FileNotFoundError):
                    size = (blobs / name).lstat().st_blocks * 512
                    (blobs / name).unlink()
                    freed.append(size)

        await store.read(remove)
    return tuple(freed)


def file_sizes(blobs: Path) -> dict[str, int]:
    """Return what each file takes on disk, in bytes, by its name; blocks."""
    sizes = {}
    with os.scandir(blobs) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_file(follow_symlinks=False):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_blocks * 512
    return sizes


_Holders = Mapping[str, list[Holder]]


class ContentUsage:
    """Looks, and changes nothing."""

    def __init__(
        self,
        root: Path,
        store: Store,
        content: ContentStore,
        ingests: Ingests,
        partials: Partials,
        *,
        keep_s: float,
        now_ns: Callable[[], int],
    ) -> None:
        self._root = root
        self._store = store
        self._content = content
        self._ingests = ingests
        self._partials = partials
        self._keep_ns = int(keep_s * 1e9)
        self._now_ns = now_ns

    async def objects(self) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield everything, as it is allocated on disk."""
        images, leases = await self._store.read(lambda db: (roots.image_holders(db), roots.lease_holders(db)))
        known = {holder.id: roots.familiar(holder) for holder in (*images.values(), *leases.values())}
        files = await asyncio.to_thread(file_sizes, self._content.directory)
        after: str | None = ""
        while after is not None:
            page, after = await self._store.read(lambda db, after=after: _page(db, after, self._now_ns()))  # type: ignore[misc]
            yield [_blob(digest, files, holders, known) for digest, holders in page.items()]
            for digest in page:
                files.pop(Digest(digest).hex, None)
        if files:
            strays = set(await self._store.read(lambda db: rows.unknown(db, sorted(files))))
            yield [StoredObject("stray", f"blobs/sha256/{name}", files[name]) for name in strays]
            # The others have got their rows since the rows were read, or an image needs one whose row is lost.
            rest = files.keys() - strays
            yield [StoredObject("blob", f"sha256:{name}", files[name], (Holder(WRITER),)) for name in rest]
        yield self._writes(await asyncio.to_thread(self._ingests.files))
        yield await self._downloads(known)
        yield await asyncio.to_thread(self._records)

    def _writes(self, files: Mapping[str, os.stat_result]) -> list[StoredObject]:
        writes = self._ingests.writes()
        objects = []
        for name, status in files.items():
            write, busy = writes.get(name, (None, True))  # a file without a write is of one that is done at once
            expires_ns = 0 if busy or write is None else write.updated_ns + self._keep_ns
            holder = Holder(WRITER if busy else HOLD, expires_ns=expires_ns)
            objects.append(StoredObject("ingest", write.ref if write else name, status.st_blocks * 512, (holder,)))
        return objects

    async def _downloads(self, known: Mapping[str, Holder]) -> list[StoredObject]:
        files = await self._partials.files()
        leased = await self._store.read(lambda db: _leased(db, [f"sha256:{name}" for name in files]))
        objects = []
        for name, (size, end_s, busy) in files.items():
            digest = f"sha256:{name}"
            holders = [known[lease] for lease in leased.get(digest, ()) if lease in known]
            holders.append(Holder(WRITER) if busy else Holder(HOLD, expires_ns=int(end_s * 1e9)))
            objects.append(StoredObject("partial", digest, size, tuple(holders)))
        return objects

    def _records(self) -> list[StoredObject]:
        """The database, and what directories take themselves."""
        ours = (Holder(SERVICE, "imaged"),)
        known = [self._root, *(self._root / name for name in _DIRECTORIES)]
        size = sum(path.lstat().st_blocks * 512 for path in known if path.is_dir())
        objects = [StoredObject("records", "directories", size, ours)]
        for parent in (self._root, self._root / "blobs"):
            for path in sorted(parent.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    if path not in known:
                        name = str(path.relative_to(self._root))
                        objects.append(StoredObject("foreign", name, measure_any(path), (Holder(FOREIGN),)))
                else:
                    objects.append(StoredObject("records", path.name, path.lstat().st_blocks * 512, ours))
        return objects


def _blob(
    digest: str, files: Mapping[str, int], holders: Iterable[Holder], known: Mapping[str, Holder]
) -> StoredObject:
    """Images and leases come with their IDs alone."""
    whole = tuple(known.get(holder.id, holder) if holder.kind in (IMAGE, LEASE) else holder for holder in holders)
    return StoredObject("blob", digest, files.get(Digest(digest).hex, 0), whole)


def _page(db: sqlite3.Connection, after: str, now_ns: int) -> tuple[_Holders, str | None]:
    """Return some blobs, in the order of their digests, with what keeps each, and where to go on."""
    found = db.execute(
        "SELECT digest, held_until_ns FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?", (after, _PAGE)
    ).fetchall()
    holders: dict[str, list[Holder]] = {digest: [] for digest, _ in found}
    if not found:
        return holders, None
    span = found[0]["digest"], found[-1]["digest"]
    for digest, image in db.execute("SELECT digest, image FROM image_blobs WHERE digest BETWEEN ? AND ?", span):
        holders[digest].append(Holder(IMAGE, image))
    for digest, key, value in db.execute(
        "SELECT digest, key, value FROM blob_labels WHERE digest BETWEEN ? AND ?", span
    ):
        if rows.is_root(key):
            ours = key.startswith(rows.REGISTRY_LABEL)
            holders[digest].append(Holder(REGISTRY, value) if ours else Holder(LABEL, key))
    for digest, lease in db.execute("SELECT digest, lease FROM lease_blobs WHERE digest BETWEEN ? AND ?", span):
        if digest in holders:  # one that is still to come has a lease already
            holders[digest].append(Holder(LEASE, lease))
    for digest, until_ns in found:
        if until_ns > now_ns:
            holders[digest].append(Holder(HOLD, expires_ns=until_ns))
    return holders, found[-1]["digest"] if len(found) == _PAGE else None


def _leased(db: sqlite3.Connection, digests: Iterable[str]) -> dict[str, list[str]]:
    query = "SELECT lease FROM lease_blobs WHERE digest = ? ORDER BY lease"
    return {digest: [row[0] for row in db.execute(query, (digest,))] for digest in digests}
