"""Uploads: blobs on their way in, in one piece or many.

An upload is an ingest of the content store and nothing else: what it is called says which repository it belongs to, and
how far it is the content store knows. So it outlives this process, though not the content store's.
"""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Set
from contextlib import contextmanager
from typing import Final

from registryd.protocol import Contents
from registryd.repositories.blobs import Blobs
from registryd.repositories.model import UploadState
from registryd.repositories.refusal import Code, RefusedError
from sampan.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from sampan.oci.digest import Digest

# Refs of ingests that are ours begin so.
REF_PREFIX: Final = "registryd/"


class Visits:
    """Who comes to which upload, so that none is dropped that somebody has come back to.

    All that is written to uploads is written by this process.
    """

    def __init__(self) -> None:
        self._present: Counter[str] = Counter()
        self._noting: list[set[str]] = []
        self._leaving: set[str] = set()

    @contextmanager
    def visit(self, ref: str) -> Iterator[None]:
        """Ask for, or add to, an upload within."""
        for noted in self._noting:
            noted.add(ref)
        self._present[ref] += 1
        try:
            yield
        finally:
            self._present[ref] -= 1
            if not self._present[ref]:
                del self._present[ref]

    @contextmanager
    def noted(self) -> Iterator[Set[str]]:
        """Yield the uploads that somebody is at, and those that somebody comes to within."""
        noted = set(self._present)
        self._noting.append(noted)
        try:
            yield noted
        finally:
            self._noting = [each for each in self._noting if each is not noted]

    @contextmanager
    def leaving(self, ref: str) -> Iterator[None]:
        """Drop an upload within."""
        self._leaving.add(ref)
        try:
            yield
        finally:
            self._leaving.discard(ref)

    def is_leaving(self, ref: str) -> bool:
        """Say whether an upload is being dropped: for who comes now it is not there any more."""
        return ref in self._leaving


class Uploads:
    """The uploads of all repositories."""

    def __init__(self, contents: Contents, blobs: Blobs, max_blob_bytes: int, visits: Visits) -> None:
        self._contents = contents
        self._visits = visits
        self._blobs = blobs
        self._max_blob_bytes = max_blob_bytes

    async def begin(self, repository: str) -> str:
        """Begin an upload; return its ID."""
        upload = secrets.token_hex(16)
        await self._contents.begin(_ref(repository, upload))
        return upload

    async def offset(self, repository: str, upload: str) -> int:
        """Return how many bytes have arrived.

        Raises:
            RefusedError: BLOB_UPLOAD_UNKNOWN.
        """
        with self._visit(repository, upload) as ref:
            try:
                return await self._contents.offset(ref)
            except NotFoundError:
                raise _unknown(repository, upload) from None

    async def append(self, repository: str, upload: str, pieces: AsyncIterator[bytes], first: int | None = None) -> int:
        """Add ``pieces``; return how many bytes have arrived. If they break off, what arrived stays.

        Raises:
            RefusedError: BLOB_UPLOAD_UNKNOWN; RANGE_INVALID if the upload does not go on at byte ``first``;
                SIZE_INVALID for more than a blob may have, and then the upload is over.
            ResourceExhaustedError: the disk is full; the upload is over, so as not to keep it so.
            UnavailableError: somebody else is adding to it.
        """
        with self._visit(repository, upload) as ref:
            return await self._append(ref, await self.offset(repository, upload), pieces, first)

    async def _append(self, ref: str, offset: int, pieces: AsyncIterator[bytes], first: int | None) -> int:
        if first is not None and first != offset:
            raise RefusedError(
                Code.RANGE_INVALID, f"the upload goes on at byte {offset}, not {first}", {"Range": span(offset)}
            )
        try:
            state = await self._contents.append(ref, offset, self._limited(pieces, offset))
        except (RefusedError, ResourceExhaustedError):
            await self._drop(ref)
            raise
        return state.offset

    async def _limited(self, pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        async for piece in pieces:
            size += len(piece)
            if size > self._max_blob_bytes:
                raise RefusedError(
                    Code.SIZE_INVALID, f"the blob has more than the {self._max_blob_bytes} bytes that are allowed"
                )
            yield piece

    async def finish(self, repository: str, upload: str, digest: Digest) -> None:
        """Make a blob of the upload.

        Raises:
            RefusedError: BLOB_UPLOAD_UNKNOWN; DIGEST_INVALID if it has another digest, and then the upload is over.
        """
        with self._visit(repository, upload) as ref:
            try:
                state = await self._contents.state(ref)
            except NotFoundError:
                raise _unknown(repository, upload) from None
            await self._finish(repository, ref, state, digest)

    async def _finish(self, repository: str, ref: str, state: UploadState, digest: Digest) -> None:
        if state.digest != digest:
            await self._drop(ref)
            raise RefusedError(Code.DIGEST_INVALID, f"the blob's digest is {state.digest}, it was pushed as {digest}")
        with self._blobs.roots.issued() as root:
            size = await self._contents.commit(ref, digest, root, repository)
            await self._blobs.record(repository, digest, size, root)

    async def cancel(self, repository: str, upload: str) -> None:
        """Drop an upload.

        Raises:
            RefusedError: BLOB_UPLOAD_UNKNOWN.
        """
        await self.offset(repository, upload)
        await self._drop(_ref(repository, upload))

    @contextmanager
    def _visit(self, repository: str, upload: str) -> Iterator[str]:
        ref = _ref(repository, upload)
        if self._visits.is_leaving(ref):
            raise _unknown(repository, upload)
        with self._visits.visit(ref):
            yield ref

    async def _drop(self, ref: str) -> None:
        try:
            await self._contents.abort(ref)
        except (NotFoundError, UnavailableError):
            return  # somebody was faster, or its last write is only now ending: upkeep finds it


def span(arrived: int) -> str:
    """Return so many bytes as the spec writes them: ``0-<last byte>``, which for none is ``0-0`` as well."""
    return f"0-{max(0, arrived - 1)}"


def _unknown(repository: str, upload: str) -> RefusedError:
    return RefusedError(Code.BLOB_UPLOAD_UNKNOWN, f"upload {upload[:64]} is not known in {repository}")


def _ref(repository: str, upload: str) -> str:
    return f"{REF_PREFIX}{repository}/{upload}"
