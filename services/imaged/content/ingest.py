"""Writes that are not yet blobs.

An ingest has a name of its writer's choice, its ref, by which a writer that lost its connection goes on where it
was. Its bytes are in a file, what is known of it is in memory: ingests do not outlive the process.
"""

import asyncio
import functools
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from imaged.content.blobs import UNLEASED_HOLD_NS, ContentStore
from imaged.content.disk_full import storing
from imaged.content.store import is_root
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from sampan.filter_expressions import Filter
from sampan.oci.digest import Digest
from sampan.resource.content import IngestStatus
from sampan.service.set_aside import SetAside
from sampan.sys.files import leave_memory, start_writing
from sampan.sys.trees import remove_tree

# Dirty pages that may pile up before the kernel is asked to write them out: the sync at commit then has little left to
# do, and the disk works while the network does.
_FLUSH_BYTES: Final = 8 << 20

_MAX_REF_LENGTH: Final = 4096

# A writer whose connection broke comes back, or drops what it wrote, before its first call has been seen to end: that
# call may still be writing to the disk.
_LEAVING_S: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn`` in a thread; a cancelled caller still waits for it, so that nobody closes what it works on."""
    call = functools.partial(fn, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


class Ingest:
    """One write in progress. Used by one writer at a time; every byte is hashed as it is written."""

    def __init__(self, ref: str, path: Path, now_ns: Callable[[], int]) -> None:
        self.ref = ref
        self.total = 0
        self.expected: Digest | None = None
        self.free = asyncio.Event()  # nobody is at it
        self.free.set()
        self.abandoned = False  # it goes when whoever is at it leaves
        self.passing = False  # nobody is about to read it: it is not kept in memory
        self._now_ns = now_ns
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self._offset = 0
        self._flushed = 0  # so much is on its way to disk
        self._left = 0  # so much has left memory
        self._started_ns = self._updated_ns = now_ns()

    @property
    def busy(self) -> bool:
        """Whether somebody is at it."""
        return not self.free.is_set()

    @property
    def name(self) -> str:
        """Of its file."""
        return self._path.name

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._offset

    @property
    def digest(self) -> Digest:
        """Digest of what is written so far."""
        return Digest.from_hex(self._hash.hexdigest())

    @property
    def status(self) -> IngestStatus:
        """How far it is."""
        return IngestStatus(self.ref, self._offset, self.total, self.expected, self._started_ns, self._updated_ns)

    async def write(self, data: bytes) -> None:
        """Append ``data``; a cancelled call returns once the bytes are written.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        with storing(f"content {self.expected or self.ref}"):
            await in_thread(self.write_now, data)

    def write_now(self, data: bytes | memoryview) -> None:
        """Append ``data``, or nothing of it; blocks. Raises OSError."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:  # whoever goes on later goes on where the digest is
            os.ftruncate(self._fd, self._offset)
            os.lseek(self._fd, self._offset, os.SEEK_SET)
            raise
        self._hash.update(data)
        self._offset += len(data)
        self._updated_ns = self._now_ns()
        if self._offset - self._flushed >= _FLUSH_BYTES:
            start_writing(self._fd, self._flushed, self._offset - self._flushed)
            if self.passing:  # what was begun the last time is nearly done by now
                leave_memory(self._fd, self._left, self._flushed - self._left)
                self._left = self._flushed
            self._flushed = self._offset

    async def truncate(self) -> None:
        """Start again from nothing."""
        await in_thread(os.ftruncate, self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._offset = self._flushed = self._left = 0

    async def seal(self) -> Path:
        """Sync the bytes to disk and return their file; nothing is written afterwards."""
        with storing(f"content {self.expected or self.ref}"):
            await in_thread(self._seal_now)
        return self._path

    def _seal_now(self) -> None:
        os.fsync(self._fd)
        if self._left:  # a small one takes next to none
            leave_memory(self._fd, self._left, self._offset - self._left)

    def discard(self) -> None:
        """Remove the file, if it has not become a blob; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)


class Ingests:
    """All writes in progress, by ref."""

    def __init__(
        self, root: Path, content: ContentStore, now_ns: Callable[[], int] = time.time_ns, leaving_s: float = _LEAVING_S
    ) -> None:
        """``leaving_s`` is how long a writer is waited for that may be about to leave an ingest."""
        self._root = root / "ingests"
        self._content = content
        self._now_ns = now_ns
        self._leaving_s = leaving_s
        self._by_ref: dict[str, Ingest] = {}

    async def recover(self, set_aside: SetAside | None = None) -> None:
        """Remove what a previous process was writing."""
        await asyncio.to_thread(self._sweep, set_aside or SetAside())

    def _sweep(self, set_aside: SetAside) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._root.iterdir():
            with set_aside.guard("ingest", leftover.name):
                remove_tree(leftover)

    async def expire(self, keep_s: float) -> list[int]:
        """Forget writes that nobody went on with for so long, and remove files of none; return what each took."""
        before_ns = self._now_ns() - int(keep_s * 1e9)
        sizes = []
        for ingest in tuple(self._by_ref.values()):
            if not ingest.busy and ingest.status.updated_ns <= before_ns:
                sizes.append(ingest.offset)
                self.discard(ingest)
        # What is written at once (see ``ContentStore.put``) has a file here, too, for as long as that takes.
        known = {ingest.name for ingest in self._by_ref.values()}
        return sizes + await asyncio.to_thread(self._drop_strays, known, before_ns)

    def _drop_strays(self, known: set[str], before_ns: int) -> list[int]:
        sizes = []
        for name, status in self.files().items():
            if name not in known and status.st_mtime_ns <= before_ns:
                (self._root / name).unlink(missing_ok=True)
                sizes.append(status.st_blocks * 512)
        return sizes

    def files(self) -> dict[str, os.stat_result]:
        """Return the files that are there, by name; blocks."""
        files = {}
        with os.scandir(self._root) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    files[entry.name] = entry.stat(follow_symlinks=False)
        return files

    def writes(self) -> dict[str, tuple[IngestStatus, bool]]:
        """Return the writes by the names of their files, and whether somebody is at them."""
        return {ingest.name: (ingest.status, ingest.busy) for ingest in self._by_ref.values()}

    @asynccontextmanager
    async def open(self, ref: str, total: int = 0, expected: Digest | None = None) -> AsyncIterator[Ingest]:
        """Begin or resume the ingest ``ref``; leaving the context lets another writer have it.

        Raises:
            InvalidArgumentError: no ref, or a negative total.
            AlreadyExistsError: content with the expected digest is here.
            UnavailableError: somebody else is writing it.
        """
        if not ref or len(ref) > _MAX_REF_LENGTH:
            raise InvalidArgumentError(f"an ingest needs a ref of 1 to {_MAX_REF_LENGTH} characters")
        if total < 0:
            raise InvalidArgumentError(f"ref {ref}: total of {total} bytes")
        if expected is not None:
            await self.refuse_existing(ref, expected)
        ingest = await self._left(ref)
        if ingest is None:
            with storing(f"content {expected or ref}"):
                name = hashlib.sha256(ref.encode()).hexdigest()
                ingest = self._by_ref[ref] = Ingest(ref, self._root / name, self._now_ns)
        if total:
            ingest.total = total
        if expected is not None:
            ingest.expected = expected
        ingest.free.clear()
        try:
            yield ingest
        finally:
            ingest.free.set()
            if ingest.abandoned:
                self.discard(ingest)

    async def _left(self, ref: str) -> Ingest | None:
        """Return the ingest ``ref``, if there is one, when nobody is at it. Raises UnavailableError."""
        try:
            async with asyncio.timeout(self._leaving_s):
                while (ingest := self._by_ref.get(ref)) is not None and ingest.busy:
                    await ingest.free.wait()
        except TimeoutError:
            raise UnavailableError(f"ref {ref} locked: somebody else is writing it") from None
        return ingest

    async def refuse_existing(self, ref: str, expected: Digest, own: Ingest | None = None) -> None:
        """Raise AlreadyExistsError, and drop the ingest, if content with the expected digest is here.

        Raises:
            UnavailableError: it is here, and somebody else than the writer of ``own`` is writing to the ingest.
        """
        try:
            await self._content.info(expected)
        except NotFoundError:
            return
        if self._content.is_damaged(expected):
            return
        ingest = self._by_ref.get(ref)
        if ingest is not None and ingest is not own and ingest.busy:
            raise UnavailableError(f"ref {ref} locked: somebody else is writing it")
        if ingest is not None:
            self.discard(ingest)
        raise AlreadyExistsError(f"content {expected}: already exists")

    async def commit(
        self,
        ingest: Ingest,
        size: int,
        expected: Digest | None,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> Digest:
        """Make the ingest a blob; a ``size`` of 0 is not checked.

        It is kept by ``lease``, by a label that makes it a root, or for a day.

        Whether it succeeds or not, the ingest is over, unless the size or the digest are wrong: then it stays.

        Raises:
            ConflictError: another size, or another digest, was expected.
            AlreadyExistsError: the content is here.
            NotFoundError: there is no such lease.
        """
        digest = ingest.digest
        if size and size != ingest.offset:
            raise ConflictError(f"unexpected commit size {ingest.offset}, expected {size}")
        if expected is not None and expected != digest:
            raise ConflictError(f"unexpected commit digest {digest}, expected {expected}")
        if lease:
            await self._content.hold(lease, digest)
        await self.refuse_existing(ingest.ref, digest, ingest)
        kept = bool(lease) or any(map(is_root, labels or ()))
        await self.publish(ingest, labels, hold_ns=0 if kept else UNLEASED_HOLD_NS)
        return digest

    async def publish(self, ingest: Ingest, labels: Mapping[str, str] | None = None, *, hold_ns: int = 0) -> None:
        """Make a verified ingest a blob; afterwards, and after any failure, the ingest is gone.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        try:
            path = await ingest.seal()
            await self._content.place(path, ingest.digest, ingest.offset, labels, hold_ns)
        finally:
            self.discard(ingest)

    def abandon(self, ingest: Ingest) -> None:
        """Forget an ingest that nobody goes on with, once its last writer has left; safe to repeat."""
        ingest.abandoned = True
        if not ingest.busy:
            self.discard(ingest)

    def discard(self, ingest: Ingest) -> None:
        """Forget an ingest and remove its file; safe to repeat."""
        if self._by_ref.get(ingest.ref) is ingest:
            del self._by_ref[ingest.ref]
        ingest.discard()

    def status(self, ref: str) -> IngestStatus:
        """Return how far a write is.

        Raises:
            NotFoundError: there is none of that name.
        """
        return _known(ref, self._by_ref.get(ref)).status

    def statuses(self, accept: Filter) -> list[IngestStatus]:
        """Return the writes that the filter accepts, ordered by ref."""
        return [
            self._by_ref[ref].status
            for ref in sorted(self._by_ref)
            if accept(lambda path, ref=ref: ref if path == ("ref",) else None)  # type: ignore[misc]
        ]

    async def abort(self, ref: str) -> None:
        """Drop a write; the call that wrote it may be about to end.

        Raises:
            NotFoundError: there is none of that name.
            UnavailableError: somebody is writing it.
        """
        self.discard(_known(ref, await self._left(ref)))


def _known(ref: str, ingest: Ingest | None) -> Ingest:
    if ingest is None:
        raise NotFoundError(f"ingest ref {ref}: not found")
    return ingest
