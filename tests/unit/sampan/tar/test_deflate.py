import gzip
import random
import subprocess
import zlib
from collections.abc import Sequence

import pytest

from sampan.tar.deflate import GzipCompressor
from tests.support.tools import need

_PIECE = 1 << 20

TEXT = b"".join(b"line %d of a text that says little\n" % number for number in range(_PIECE // 32))[:_PIECE]
NOISE = random.Random(1).randbytes(_PIECE)
MIXED = NOISE[: _PIECE // 2] + TEXT[: _PIECE // 2]
DIGITS = bytes(random.Random(2).choices(b"0123456789abcdef", k=_PIECE))  # neither repeats nor is noise
ZEROS = bytes(_PIECE)


def compress(pieces: Sequence[bytes | memoryview]) -> bytes:
    compressor = GzipCompressor()
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"x"],
        [NOISE],
        [TEXT],
        [TEXT, NOISE, TEXT],
        [NOISE, TEXT, TEXT, NOISE, NOISE],
        [TEXT, NOISE[:-1], NOISE[1:], TEXT[:7], NOISE[:5], ZEROS, MIXED, DIGITS],
        # What came before stored bytes comes again after them: no match may lead there.
        [NOISE[:60_000], NOISE, NOISE[:60_000], TEXT[:30_000], NOISE, TEXT[:30_000]],
        [NOISE[:65_535], NOISE[:65_536], NOISE[:65_537], NOISE[: 2 * 65_535], NOISE[: 2 * 65_535 + 1]],
    ],
    ids=lambda pieces: "-".join(str(len(piece)) for piece in pieces) or "nothing",
)
def test_every_reader_gets_what_was_compressed(pieces: Sequence[bytes]) -> None:
    packed, plain = compress(pieces), b"".join(pieces)
    assert gzip.decompress(packed) == plain
    assert zlib.decompress(packed, 31) == plain  # one member, and nothing behind it


def test_the_gzip_command_reads_it() -> None:
    need("gzip")
    packed = compress([TEXT, NOISE, MIXED])
    done = subprocess.run(["gzip", "--decompress", "--stdout"], input=packed, check=True, capture_output=True)
    assert done.stdout == TEXT + NOISE + MIXED


def test_what_does_not_get_smaller_is_stored() -> None:
    assert NOISE[70_000:130_000] in compress([TEXT, NOISE])
    assert len(compress([NOISE] * 4)) < 4 * _PIECE * 1.0005


@pytest.mark.parametrize(
    ("piece", "most"),
    [(TEXT, 0.2), (ZEROS, 0.01), (MIXED, 0.65), (DIGITS, 0.65)],
    ids=["text", "zeros", "mixed", "hex"],
)
def test_what_gets_smaller_is_compressed(piece: bytes, most: float) -> None:
    assert len(compress([piece, NOISE, piece])) < len(NOISE) * 1.001 + 2 * most * len(piece)


def test_the_same_pieces_are_the_same_bytes() -> None:
    pieces = [TEXT, NOISE, MIXED, ZEROS]
    assert compress(pieces) == compress([memoryview(bytearray(piece)) for piece in pieces])
