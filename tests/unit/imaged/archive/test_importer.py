"""Tars to images."""

import bz2
import gzip
import lzma
import random
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from imaged.archive.decompress import decompressor
from imaged.images.model import PIECE_BYTES
from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import OCI_LAYER
from sampan.oci.digest import Digest
from sampan.oci.image_config import RunConfig
from sampan.oci.platform import Platform
from sampan.tar.compression import MAGIC_BYTES
from tests.support.images import Entry, tar
from tests.unit.imaged.parts import Parts

TAR = tar(Entry("hello", b"hello" * 1000), Entry("noise", random.Random(7).randbytes(3_000_000)))
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0size"  # a frame that parallel compressors begin with
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd in parallel": lambda data: SKIPPED + zstandard.ZstdCompressor().compress(data),
}


async def chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("packer", PACKERS)
async def test_layer_is_the_plain_tar_however_it_was_packed(parts: Parts, packer: str) -> None:
    imported = await parts.importer.run(chunks(PACKERS[packer](TAR)), (), "", None)
    (layer,) = imported.layers
    assert layer.diff_id == layer.descriptor.digest == Digest.of(TAR)
    assert layer.descriptor.media_type == OCI_LAYER
    assert parts.content.path(Digest.of(TAR)).read_bytes() == TAR


async def test_image_says_when_and_how_it_was_made(parts: Parts) -> None:
    imported = await parts.importer.run(chunks(TAR), ["CMD ls -l", "ENV A=b"], "made here", Platform("linux", "arm64"))
    created = await parts.images.create(None, imported.target, imported.lease, None)
    config = created.image.config
    assert config.run == RunConfig(cmd=("/bin/sh", "-c", "ls -l"), env=("A=b",))
    assert config.created_ns == parts.clock.ns
    assert config.platform == Platform("linux", "arm64")
    assert [step.comment for step in config.history] == ["made here"]


async def test_history_says_imported_without_a_message(parts: Parts) -> None:
    imported = await parts.import_image("x")
    image = await parts.images.get(imported.image_id)
    assert image.config.history[0].comment == "Imported from -"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not a tar archive: 0 bytes"),
        (b"#!/bin/sh\n", "not a tar archive: 10 bytes"),
        (b"PK\3\4" + b"x" * 4096, "checksum is wrong"),
        (gzip.compress(TAR)[:-500], "gzip data ends too early"),
        (gzip.compress(TAR)[:-8] + bytes(8), "gzip data is damaged"),
        (lzma.compress(TAR)[:5000], "xz data ends too early"),
        (zstandard.ZstdCompressor().compress(TAR)[:5000], "zstd data ends too early"),
        (bz2.compress(TAR)[:5000], "bzip2 data ends too early"),
    ],
)
async def test_what_is_no_tar_is_refused_and_leaves_nothing(parts: Parts, data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        await parts.importer.run(chunks(data), (), "", None)
    assert parts.blobs() == set()
    assert parts.leftovers() == []


@pytest.mark.parametrize("byte", [b"x", b"\0"])
async def test_what_is_no_tar_is_not_read_to_its_end(parts: Parts, byte: bytes) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            assert sent < 100
            yield byte * 100_000

    with pytest.raises(InvalidArgumentError, match="not a tar archive"):
        await parts.importer.run(endless(), (), "", None)
    assert parts.leftovers() == []


async def test_bad_change_is_refused_before_anything_is_read(parts: Parts) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    with pytest.raises(InvalidArgumentError, match="run is not a valid change command"):
        await parts.importer.run(never(), ["RUN rm -rf /"], "", None)


async def test_import_that_breaks_off_leaves_nothing(parts: Parts) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield TAR[:2_000_000]
        raise ConnectionError("client left")

    with pytest.raises(ConnectionError):
        await parts.importer.run(broken(), (), "", None)
    assert parts.blobs() == set()
    assert parts.leftovers() == []


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd", "zstd in parallel"])
@pytest.mark.parametrize("size", [1, 511, 10_000_000])
def test_stream_may_be_several_joined_and_cut_anywhere(packer: str, size: int) -> None:
    pack = PACKERS[packer]
    data = pack(b"one" * 1000) + pack(b"") + pack(b"two" * 1000)
    unpack = decompressor(data[:MAGIC_BYTES])
    out = b"".join(piece for start in range(0, len(data), size) for piece in unpack.feed(data[start : start + size]))
    unpack.finish()
    assert out == b"one" * 1000 + b"two" * 1000


def test_dictionary_that_would_take_all_memory_is_refused() -> None:
    data = lzma.compress(TAR, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 30}])
    with pytest.raises(InvalidArgumentError, match="Memory usage limit exceeded"):
        list(decompressor(data[:MAGIC_BYTES]).feed(data))


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
def test_bomb_comes_out_in_pieces(packer: str) -> None:
    data = PACKERS[packer](bytes(200_000_000 if packer == "zstd" else 20_000_000))
    unpack = decompressor(data[:MAGIC_BYTES])
    assert max(len(piece) for piece in unpack.feed(data)) <= 17 * PIECE_BYTES
