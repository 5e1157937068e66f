import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard

from runtimed.archives.packed import plain_bytes
from sampan.errors import InvalidArgumentError

PLAIN = b"what is packed " * 50_000


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def _zstd_in_parallel(data: bytes) -> bytes:
    return b"\x5f\x2a\x4d\x18\x04\0\0\0size" + _zstd(data)


PACKERS = (gzip.compress, bz2.compress, lzma.compress, _zstd, _zstd_in_parallel)


def read_all(packed: bytes) -> bytes:
    reader = plain_bytes(io.BytesIO(packed))
    return b"".join(iter(lambda: reader.read(65536), b""))


@pytest.mark.parametrize("pack", PACKERS)
def test_packed_bytes_come_out_plain(pack: Callable[[bytes], bytes]) -> None:
    assert read_all(pack(PLAIN)) == PLAIN


@pytest.mark.parametrize("pack", PACKERS)
def test_streams_that_follow_each_other_are_one(pack: Callable[[bytes], bytes]) -> None:
    assert read_all(pack(PLAIN) + pack(b"and more")) == PLAIN + b"and more"


@pytest.mark.parametrize("cut", [1, 3, 4, 8, 20])
@pytest.mark.parametrize("pack", PACKERS)
def test_stream_that_ends_too_early_is_damaged(pack: Callable[[bytes], bytes], cut: int) -> None:
    with pytest.raises(InvalidArgumentError, match="data is damaged"):
        read_all(pack(PLAIN)[:-cut])


@pytest.mark.parametrize("pack", PACKERS)
def test_wrong_checksum_is_damage(pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(PLAIN))
    packed[{gzip.compress: -6, lzma.compress: -6}.get(pack, -2)] ^= 1
    with pytest.raises(InvalidArgumentError, match="data is damaged"):
        read_all(bytes(packed))
