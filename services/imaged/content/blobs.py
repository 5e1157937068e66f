"""Blobs on disk, by digest, and their records.

    <root>/blobs/sha256/<hex>     whole and verified, never changed afterwards
    <root>/ingests/<hex>          being written; see ``ingest.py``

A blob's file is in place before its record, and its record is gone before its file, so a crash leaves files that
nobody knows and never a record without its bytes; ``recover`` removes the former. Placing and unlinking happen on the
store's one thread, in the transaction or right behind it: a blob that is fetched again while it is being removed ends
up either whole or absent.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from imaged.content import store as rows
from imaged.content.disk_full import storing
from imaged.images.model import PIECE_BYTES
from sampan.errors import ConflictError, DataLossError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.filter_expressions import Filter
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.content import Blob
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from sampan.sys.files import sync_directory
from sampan.sys.trees import remove_tree

T = TypeVar("T")

# How long content stays that a client wrote through the Content service without a lease: long enough to make an
# image of it, short enough that an abandoned upload does not stay for ever.
UNLEASED_HOLD_NS: Final = 24 * 3600 * 10**9

# What is read in a moment: documents, and the smallest of layers.
SMALL_BYTES: Final = 1 << 20


class ContentStore:
    """The blobs of one engine."""

    def __init__(self, root: Path, store: Store, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._store = store
        self._now_ns = now_ns
        self._set_aside = SetAside()
        self._damaged: set[Digest] = set()  # found by a check, and not put right since
        self._removing: set[asyncio.Task[object]] = set()

    @property
    def directory(self) -> Path:
        """Where all blobs are."""
        return self._blobs

    def path(self, digest: Digest) -> Path:
        """Where the blob is, if it is here."""
        return self._blobs / digest.hex

    async def recover(self, set_aside: SetAside | None = None) -> None:
        """Reconcile disk and records after a crash; call before anything else.

        Unused blobs go, as do files without a record. A record whose file is gone or has another size is dropped
        with a warning, unless an image needs it: then the blob is set aside, and pulling the image again repairs it.
        """
        self._set_aside = set_aside = set_aside or SetAside()
        await asyncio.to_thread(self._blobs.mkdir, mode=0o700, parents=True, exist_ok=True)
        self._damaged = await self._store.read(rows.damaged)
        gone = await self._store.write(lambda db: self._reconcile(db, set_aside))
        for digest in gone:
            log.info("unused blob removed", digest=digest)

    def _reconcile(self, db: sqlite3.Connection, set_aside: SetAside) -> list[Digest]:
        known = {blob.digest: blob.size for blob in rows.list_blobs(db)}
        gone = list(rows.delete_unused(db, known, self._now_ns()))
        for digest in gone:
            del known[digest]
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self._blobs)}
        for digest, size in known.items():
            if sizes.get(digest.hex) == size:
                continue
            log.error("blob is damaged", digest=digest, size_bytes=size, found_bytes=sizes.get(digest.hex))
            try:
                rows.delete_blob(db, digest)
            except sqlite3.IntegrityError:  # the image that needs it shows the damage to whoever uses it
                there = f"{sizes[digest.hex]} of {size} bytes are" if digest.hex in sizes else "it is not"
                set_aside.add("blob", digest, f"{there} on disk: pull the image that needs it again")
                continue
            gone.append(digest)
        keep = {digest.hex for digest in (known.keys() - set(gone)) | rows.lost(db)}
        for name in sizes.keys() - keep:
            with set_aside.guard("leftover", name):
                remove_tree(self._blobs / name)
        return gone

    async def info(self, digest: Digest) -> Blob:
        """Return what is known of a blob.

        Raises:
            NotFoundError: it is not here.
        """
        blob = await self._store.read(lambda db: rows.get_blob(db, digest))
        if blob is None:
            raise NotFoundError(f"content {digest}: not found")
        return blob

    async def list(self, accept: Filter) -> list[Blob]:
        """Return the blobs that the filter accepts, ordered by digest."""
        blobs = await self._store.read(rows.list_blobs)
        return [blob for blob in blobs if accept(blob.field)]

    async def update(self, digest: Digest, labels: Mapping[str, str], paths: Iterable[str]) -> Blob:
        """Change labels: those that ``paths`` names (``labels``, ``labels.<key>``), or all if it is empty.

        A blob that only a label kept goes with it; the answer is then what it was.

        Raises:
            NotFoundError: the blob is not here.
            InvalidArgumentError: a path that is not of labels.
        """
        some: dict[str, str] = {}
        everything = not (masks := tuple(paths))
        for mask in masks:
            if mask == "labels":
                everything = True
            elif mask.startswith("labels."):
                key = mask.removeprefix("labels.")
                some[key] = labels.get(key, "")
            else:
                raise InvalidArgumentError(f"cannot update {mask!r} field on content info {str(digest)!r}")

        gone: list[Digest] = []

        def change(db: sqlite3.Connection) -> Blob:
            before = rows.get_blob(db, digest)
            if before is None:
                raise NotFoundError(f"content {digest}: not found")
            if everything:
                rows.replace_labels(db, digest, labels)
            else:
                rows.set_labels(db, digest, some)
            rows.touch_blob(db, digest, self._now_ns())
            blob = rows.get_blob(db, digest)
            assert blob is not None
            if any(map(rows.is_root, before.labels)) and not any(map(rows.is_root, blob.labels)):
                gone.extend(rows.delete_unused(db, [digest], self._now_ns()))
            return blob

        async def act() -> Blob:
            with storing(f"labels of content {digest}"):
                blob = await self._store.write(change)
            await self.unlink(gone)
            return blob

        return await self._to_the_end(act())

    async def delete(self, digest: Digest) -> None:
        """Remove a blob.

        Raises:
            NotFoundError: it is not here.
            ConflictError: an image needs it. (containerd would remove it and leave the image broken.)
        """

        def forget(db: sqlite3.Connection) -> None:
            try:
                found = rows.delete_blob(db, digest)
            except sqlite3.IntegrityError:
                raise ConflictError(f"content {digest} is part of an image: remove the image") from None
            if not found:
                raise NotFoundError(f"content {digest}: not found")

        async def act() -> None:
            await self._store.write(forget)
            await self.unlink([digest])

        await self._to_the_end(act())

    async def drop_unused(self, change: Callable[[sqlite3.Connection], Iterable[str]]) -> dict[Digest, int]:
        """Run ``change`` in a transaction, and remove those of the digests it returns that nothing keeps any more.

        Returns the sizes of what is gone.
        """

        async def act() -> dict[Digest, int]:
            with storing("removal of content"):
                gone = await self._store.write(lambda db: rows.delete_unused(db, change(db), self._now_ns()))
            await self.unlink(gone)
            return gone

        return await self._to_the_end(act())

    async def _to_the_end(self, work: Coroutine[None, None, T]) -> T:
        """Run a removal to its end, whoever stops waiting for it: between row and file it would leave the file."""
        task = asyncio.create_task(work)
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)
        return await asyncio.shield(task)

    async def unlink(self, digests: Iterable[Digest]) -> None:
        """Remove the files of blobs whose records are gone, unless they have come back since."""

        def remove(db: sqlite3.Connection) -> None:
            for digest in digests:
                if rows.get_blob(db, digest) is None:
                    self.path(digest).unlink(missing_ok=True)

        await self._store.read(remove)

    async def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncIterator[bytes]:
        """Yield a blob's bytes from ``offset``, ``size`` of them or all, in pieces.

        Raises:
            NotFoundError: the blob is not here.
            InvalidArgumentError: the range does not lie within the blob.
            DataLossError: the file is shorter than it was.
        """
        blob = await self.info(digest)
        if offset < 0 or size < 0:
            raise InvalidArgumentError(f"read offset {offset} and size {size} must not be negative")
        if offset + size > blob.size:
            raise InvalidArgumentError(f"read past object length {blob.size} bytes: offset {offset}, size {size}")
        fd = await asyncio.to_thread(self._open, digest)
        try:
            end = offset + size if size else blob.size
            while offset < end:
                piece = await asyncio.to_thread(os.pread, fd, min(PIECE_BYTES, end - offset), offset)
                if not piece:
                    raise DataLossError(f"content {digest} ends at {offset} of {blob.size} bytes: pull it again")
                yield piece
                offset += len(piece)
        finally:
            os.close(fd)

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataLossError(f"content {digest} is recorded and its file is gone: pull it again") from None

    async def load(self, digest: Digest, most: int) -> bytes:
        """Return a small blob, verified.

        Raises:
            NotFoundError: it is not here.
            InvalidArgumentError: it is larger than ``most`` bytes.
            DataLossError: the bytes are not what the digest says.
        """
        blob = await self.info(digest)
        if blob.size > most:
            raise InvalidArgumentError(f"content {digest} is {blob.size} bytes, the most is {most}")
        return await asyncio.to_thread(self.load_now, digest)

    def load_now(self, digest: Digest) -> bytes:
        """Return a blob that is known to be small and here, verified; blocks.

        Raises:
            DataLossError: the bytes are not what the digest says, or are gone.
        """
        fd = self._open(digest)
        with open(fd, "rb") as file:
            data = file.read()
        if Digest.of(data) != digest:
            raise DataLossError(f"content {digest} is damaged: its digest is {Digest.of(data)}")
        return data

    def is_whole(self, digest: Digest, size: int) -> bool:
        """Say whether a recorded blob's file is there in full; blocks, and reads no more content than a small blob's.

        One that a check found damaged is not.
        """
        if digest in self._damaged:
            return False
        if size <= SMALL_BYTES:
            try:
                self.load_now(digest)
            except DataLossError:
                return False
            return True
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def is_damaged(self, digest: Digest) -> bool:
        """Say whether a check found the blob damaged, and nobody has put it right since."""
        return digest in self._damaged

    async def mark_damaged(self, digest: Digest, problem: str) -> bool:
        """Have a blob count as missing for whoever would fetch it; return False if it is gone altogether."""

        def mark(db: sqlite3.Connection) -> bool:
            if rows.get_blob(db, digest) is None:
                return False
            rows.set_labels(db, digest, {rows.DAMAGED_LABEL: problem})
            self._damaged.add(digest)
            return True

        return await self._store.write(mark)

    async def adopt(self, digest: Digest, hold_ns: int = 0) -> None:
        """Record a file that is known to be whole, or that it is whole again."""
        now_ns = self._now_ns()

        def record(db: sqlite3.Connection) -> None:
            size = self.path(digest).stat().st_size
            rows.insert_blob(db, Blob(digest, size, now_ns, now_ns), now_ns + hold_ns if hold_ns else 0)
            self._repaired(db, digest)

        await self._store.write(record)

    async def forget(self, digest: Digest) -> None:
        """Remove a blob that no image needs, whatever else would keep it. Raises ConflictError if one does."""
        with suppress(NotFoundError):
            await self.delete(digest)
        self._damaged.discard(digest)

    def _repaired(self, db: sqlite3.Connection, digest: Digest) -> None:
        self._set_aside.drop("blob", digest)
        if digest in self._damaged:
            rows.set_labels(db, digest, {rows.DAMAGED_LABEL: ""})
            self._damaged.discard(digest)

    async def hold(self, lease: str, digest: Digest) -> None:
        """Keep content that is here, or will be, by a lease. UnavailableError: the lease is over, as after kills."""

        def hold(db: sqlite3.Connection) -> None:
            if not rows.has_lease(db, lease):
                raise UnavailableError(f"lease {lease!r} is over: what it was for broke off; try again")
            rows.hold(db, lease, [digest])

        with storing("lease"):
            await self._store.write(hold)

    async def put(self, data: bytes, media_type: str, lease: str) -> Descriptor:
        """Store a small blob under ``lease``, durably; content that is here already is only leased.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        digest = Digest.of(data)
        descriptor = Descriptor(media_type, digest, len(data))
        # Not an ingest: it is too small to be worth resuming. The lease's name keeps two writers apart.
        temporary = self._blobs.parent.parent / "ingests" / f"{digest.hex}.{lease}"
        with storing(f"content {digest}"):
            here = await self._store.write(lambda db: rows.hold(db, lease, [digest]))
            if digest in here and await asyncio.to_thread(self.is_whole, digest, len(data)):
                return descriptor
            try:
                await asyncio.to_thread(_write_file, temporary, data)
                await self.place(temporary, digest, len(data))
            finally:
                await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return descriptor

    async def place(
        self, file: Path, digest: Digest, size: int, labels: Mapping[str, str] | None = None, hold_ns: int = 0
    ) -> None:
        """Make a synced, verified file a blob: link it, sync the directory, record; the caller unlinks its own name.

        A process killed in between has the file still, under the caller's name. ``hold_ns`` keeps the blob that long
        without a lease. If it is here already this file takes the place of the one there.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        now_ns = self._now_ns()
        blob = Blob(digest, size, now_ns, now_ns, labels or {})

        def publish(db: sqlite3.Connection) -> None:
            target = self.path(digest)
            try:
                os.link(file, target)
            except FileExistsError:
                # Beside the blobs, whose strays are swept between two transactions: beside the caller's file it could
                # be swept in the middle of this one.
                staged = target.with_name(f"{target.name}.placed")
                staged.unlink(missing_ok=True)
                os.link(file, staged)
                staged.rename(target)
                staged.unlink(missing_ok=True)  # rename(2) keeps both names of one file
            sync_directory(self._blobs)
            rows.insert_blob(db, blob, now_ns + hold_ns if hold_ns else 0)
            self._repaired(db, digest)

        with storing(f"content {digest}"):
            await self._store.write(publish)


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
