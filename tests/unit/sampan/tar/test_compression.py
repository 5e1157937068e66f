import bz2
import gzip
import io
import lzma
import tarfile

import pytest
import zstandard

from sampan.tar.compression import MAGIC_BYTES, Compression, compression, is_archive
from sampan.tar.reader import BLOCK


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(b"x"), Compression.GZIP),
        (bz2.compress(b"x"), Compression.BZIP2),
        (lzma.compress(b"x"), Compression.XZ),
        (zstandard.ZstdCompressor().compress(b"x"), Compression.ZSTD),
        (b"\x50\x2a\x4d\x18\4\0\0\0", Compression.ZSTD),
        (b"\x5f\x2a\x4d\x18\4\0\0\0", Compression.ZSTD),
        (b"\x60\x2a\x4d\x18\4\0\0\0", None),
        (lzma.compress(b"x", lzma.FORMAT_ALONE), None),
        (b"PK\3\4 ", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_how_a_stream_is_packed(data: bytes, kind: Compression | None) -> None:
    assert compression(data[:MAGIC_BYTES]) is kind
    assert is_archive(data) == (kind is not None)


def _tar(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("Dockerfile"))
    return buffer.getvalue()


def _v7() -> bytes:
    header = tarfile.TarInfo("Dockerfile").tobuf(tarfile.USTAR_FORMAT)
    header = header[:148] + b" " * 8 + header[156:257] + bytes(BLOCK - 257)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


@pytest.mark.parametrize(
    "head", [_tar(tarfile.USTAR_FORMAT), _tar(tarfile.GNU_FORMAT), _tar(tarfile.PAX_FORMAT), _v7()],
    ids=["ustar", "gnu", "pax", "v7"],
)  # fmt: skip
def test_a_tar_of_any_age_is_an_archive(head: bytes) -> None:
    assert is_archive(head)
    assert is_archive(head[:BLOCK])
    assert not is_archive(head[: BLOCK - 1])


@pytest.mark.parametrize("head", [b"FROM scratch\n" * 100, bytes(1024), b"x" * 257 + b"ustar\0" + b"x" * 700])
def test_other_files_are_none(head: bytes) -> None:
    assert not is_archive(head)
