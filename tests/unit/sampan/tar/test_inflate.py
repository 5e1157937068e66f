import bz2
import gzip
import io
import lzma
import os

import pytest
import zstandard

from sampan.errors import InvalidArgumentError
from sampan.tar.inflate import inflate

DATA = os.urandom(300_000) + b"compressible " * 50_000


def inflated(data: bytes) -> bytes:
    return b"".join(inflate(io.BytesIO(data)))


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        gzip.compress(DATA),
        zstandard.ZstdCompressor().compress(DATA),
        bz2.compress(DATA),
        lzma.compress(DATA),
        gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]),
        zstandard.ZstdCompressor().compress(DATA[:1000]) + zstandard.ZstdCompressor().compress(DATA[1000:]),
        gzip.compress(DATA) + bytes(5000),
        b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard.ZstdCompressor().compress(DATA),
    ],
    ids=["plain", "gzip", "zstd", "bzip2", "xz", "gzip members", "zstd frames", "gzip padded", "zstd skippable"],
)
def test_the_first_bytes_decide_how_to_read_it(data: bytes) -> None:
    assert inflated(data) == DATA


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(DATA) + b"junk",
        gzip.compress(DATA) + bytes(10) + b"junk",
        zstandard.ZstdCompressor().compress(DATA) + b"junk",
        bz2.compress(DATA) + b"junk",
    ],
    ids=["gzip", "gzip after padding", "zstd", "bzip2"],
)
def test_something_after_the_end_is_an_error(data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="after its end"):
        inflated(data)


def test_a_gzip_stream_cut_short_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="cut short"):
        inflated(gzip.compress(DATA)[:-20])


def test_damage_is_an_error() -> None:
    data = bytearray(gzip.compress(DATA))
    data[-6] ^= 1
    with pytest.raises(InvalidArgumentError, match="damaged gzip"):
        inflated(bytes(data))


def test_a_small_blob_that_inflates_to_much_never_is_in_memory_whole() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert max(len(piece) for piece in inflate(io.BytesIO(bomb))) <= 1 << 20
