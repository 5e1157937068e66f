"""How blobs get into the content store: whole, or not at all."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from buildd.content import copy_blob, put
from sampan.errors import DataLossError, NotFoundError, ResourceExhaustedError, UnavailableError
from sampan.oci.descriptor import OCI_CONFIG, OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from tests.fakes.build_stores import FakeStore

DATA = b"a layer"
DESCRIPTOR = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))


@dataclass
class Source:
    """Yields its pieces, then fails; ``reading`` is set once it stands still."""

    pieces: tuple[bytes, ...] = ()
    failure: Exception | None = None
    hangs: bool = False
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        assert (digest, offset, size) == (DESCRIPTOR.digest, 0, 0)
        try:
            for piece in self.pieces:
                yield piece
            if self.failure is not None:
                raise self.failure
            if self.hangs:
                self.reading.set()
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_blob_is_copied_in_pieces_and_kept() -> None:
    store, arrived = FakeStore(), list[int]()
    source = Source((DATA[:3], DATA[3:]))
    await copy_blob(store, source, DESCRIPTOR, "w", lease="l", progress=arrived.append)
    assert (store.blobs, store.kept_by) == ({DESCRIPTOR.digest: DATA}, {DESCRIPTOR.digest: "l"})
    assert (store.ingests, arrived, source.closed) == ({}, [3, 7], True)


async def test_blob_that_is_here_is_kept_and_not_read() -> None:
    store = FakeStore({DESCRIPTOR.digest: DATA})
    await copy_blob(store, Source(failure=AssertionError("read")), DESCRIPTOR, "w", lease="l")
    assert (store.kept_by, store.ingests) == ({DESCRIPTOR.digest: "l"}, {})


@pytest.mark.parametrize("pieces", [(), (DATA[:3],)])
@pytest.mark.parametrize("failure", [NotFoundError("not here"), UnavailableError("the client has gone"), OSError(5)])
async def test_copy_that_fails_leaves_nothing(pieces: tuple[bytes, ...], failure: Exception) -> None:
    store, source = FakeStore(), Source(pieces, failure)
    with pytest.raises(type(failure)):
        await copy_blob(store, source, DESCRIPTOR, "w", lease="l")
    assert (store.blobs, store.ingests, source.closed) == ({}, {}, True)


@pytest.mark.parametrize("pieces", [(), (DATA[:3],)])
async def test_copy_that_is_cancelled_leaves_nothing(pieces: tuple[bytes, ...]) -> None:
    store, source = FakeStore(), Source(pieces, hangs=True)
    task = asyncio.create_task(copy_blob(store, source, DESCRIPTOR, "w"))
    await source.reading.wait()
    assert list(store.ingests.values()) == [b"".join(pieces)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (store.ingests, source.closed) == ({}, True)


@pytest.mark.parametrize("pieces", [(b"other",), (DATA, b"more"), ()])
async def test_what_is_not_as_described_is_refused_and_leaves_nothing(pieces: tuple[bytes, ...]) -> None:
    store = FakeStore()
    with pytest.raises(DataLossError, match=DESCRIPTOR.digest):
        await copy_blob(store, Source(pieces), DESCRIPTOR, "w", lease="l")
    assert (store.blobs, store.ingests) == ({}, {})


async def test_document_is_stored_once_and_kept_by_each() -> None:
    store = FakeStore()
    for lease in ("one", "two"):
        descriptor = await put(store, b"{}", OCI_CONFIG, lease)
        assert descriptor == Descriptor(OCI_CONFIG, Digest.of(b"{}"), 2)
        assert (store.kept_by, store.ingests) == ({descriptor.digest: lease}, {})
    assert store.blobs == {Digest.of(b"{}"): b"{}"}


async def test_document_that_the_store_does_not_take_leaves_nothing() -> None:
    store = FakeStore(full=True)
    with pytest.raises(ResourceExhaustedError):
        await put(store, b"{}", OCI_CONFIG, "l")
    assert (store.blobs, store.ingests) == ({}, {})
