"""What a container writes before it is committed: 200 MB as an installation leaves them, always the same bytes."""

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = "change"

_LARGE_FILES: Final = 20
_LARGE_BYTES: Final = 5_000_000  # each of what does not compress: archives, pictures
_SMALL_FILES: Final = 5_000
_SMALL_BYTES: Final = 20_000  # on average of text: source code, documentation
_FILES_PER_FOLDER: Final = 50
_WORDS: Final = 2_000
_SEED: Final = 200


def write_change(path: Path) -> str:
    """Write it as an archive; return the SHA-256 of all files' bytes in the order of their names."""
    found = hashlib.sha256()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in _files():
            info = tarfile.TarInfo(f"{ROOT}/{name}")
            info.size, info.mtime, info.mode = len(content), 1_700_000_000, 0o644
            archive.addfile(info, io.BytesIO(content))
            found.update(content)
    return found.hexdigest()


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content in the order of the names."""
    chance = random.Random(_SEED)
    for number in range(_LARGE_FILES):
        yield f"data/{number:02}.bin", chance.randbytes(_LARGE_BYTES)
    text = _text(chance)
    for number in range(_SMALL_FILES):
        size = chance.randrange(2 * _SMALL_BYTES)
        start = chance.randrange(len(text) - size)
        yield f"share/{number // _FILES_PER_FOLDER:03}/file-{number:04}.txt", text[start : start + size]


def _text(chance: random.Random) -> bytes:
    words = [bytes(chance.choices(b"abcdefghijklmnoprstuvwy", k=chance.randrange(2, 12))) for _ in range(_WORDS)]
    return b" ".join(chance.choices(words, k=300_000))
