"""What is in the directory of all blobs, record or not."""

import asyncio
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from imaged.content import store as rows
from sampan.store.database import Store

# Files looked at between two transactions of others.
_BATCH: Final = 500


async def drop_strays(store: Store, blobs: Path) -> tuple[int, ...]:
    """Remove files that have no record; return what each took on disk, in bytes."""
    names = sorted(await asyncio.to_thread(os.listdir, blobs))
    freed: list[int] = []
    for first in range(0, len(names), _BATCH):
        batch = names[first : first + _BATCH]

        # A file is placed and recorded in one transaction, and this runs between two of them.
        def remove(db: sqlite3.Connection, batch: list[str] = batch) -> None:
            for name in rows.unknown(db, batch):
                with suppress(FileNotFoundError):
                    size = (blobs / name).lstat().st_blocks * 512
                    (blobs / name).unlink()
                    freed.append(size)

        await store.read(remove)
    return tuple(freed)


def file_sizes(blobs: Path) -> dict[str, int]:
    """Return what each file takes on disk, in bytes, by its name; blocks."""
    sizes = {}
    with os.scandir(blobs) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_file(follow_symlinks=False):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_blocks * 512
    return sizes
