"""The builder's copies of its clients' directories.

<root>/<key>-<number>/files   a copy; a second one if the first is in use
<root>/<key>-<number>/about   JSON: whose copy it is; its time is that of the last use

Beside ``files`` is what is known of it: see ``buildd.files.index``.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from buildd.cache.model import Record, RecordType
from sampan.cancellation import to_the_end
from sampan.log import log
from sampan.sys.measuring import measure_any
from sampan.sys.trees import remove_tree, walking

_FILES: Final = "files"
_ABOUT: Final = "about"
_GONE: Final = ".gone"
_NAME: Final = re.compile(r"[0-9a-f]{32}-[0-9]+")


class LocalDirectories:
    """All copies. Satisfies ``cache.model.Shelf``."""

    def __init__(self, root: Path) -> None:
        """``root`` is a directory for nobody else."""
        self._root = root
        self._used: set[str] = set()

    def recover(self) -> None:
        """Remove what was being removed, or made; blocks."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._root.iterdir():
            if left.suffix == _GONE or not (left / _ABOUT).exists():
                remove_tree(left)

    @asynccontextmanager
    async def use(self, shared_key: str, description: str) -> AsyncIterator[Path]:
        """Yield the directory of a copy, the caller's alone until this is left; made if there is none that is free."""
        key = hashlib.sha256(shared_key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        number = next(each for each in range(len(self._used) + 1) if f"{key}-{each}" not in self._used)
        name = f"{key}-{number}"
        self._used.add(name)
        try:
            place = self._root / name
            await to_the_end(asyncio.to_thread(_make, place, description))
            yield place / _FILES
            await asyncio.to_thread(os.utime, place / _ABOUT)
        finally:
            self._used.discard(name)

    async def records(self) -> Sequence[Record]:
        """Return all copies, with what they take on disk."""
        found = []
        for place in await asyncio.to_thread(self._places):
            size = await walking(lambda stop, place=place: measure_any(place, stop))  # type: ignore[misc]
            record = await asyncio.to_thread(_record, place, size, in_use=place.name in self._used)
            if record is not None:
                found.append(record)
        return found

    def _places(self) -> list[Path]:
        return sorted(path for path in self._root.iterdir() if path.suffix != _GONE)

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        removed = []
        for name in ids:
            place = self._root / name
            if name in self._used or not _NAME.fullmatch(name) or not place.is_dir():
                continue
            gone = place.with_name(f"{name}{_GONE}")
            await to_the_end(self._remove(place, gone))
            removed.append(name)
        return removed

    async def _remove(self, place: Path, gone: Path) -> None:
        """Remove a copy, to the end: from its new name on nobody lists it, and the next build makes another."""
        await asyncio.to_thread(place.rename, gone)
        await walking(lambda _: remove_tree(gone))


def _make(place: Path, description: str) -> None:
    about = place / _ABOUT
    try:
        os.utime(about)
    except FileNotFoundError:
        if place.exists():  # it was being made
            shutil.rmtree(place)
        place.mkdir(mode=0o700)
        (place / _FILES).mkdir(mode=0o755)
        about.write_text(json.dumps({"description": description, "created_ns": time.time_ns()}))


def _record(place: Path, size: int, *, in_use: bool) -> Record | None:
    with suppress(FileNotFoundError):
        about = place / _ABOUT
        try:
            said = json.loads(about.read_text())
            described, created = str(said["description"]), int(said["created_ns"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("a copy of a client's directory does not say whose it is", path=str(about), error=str(error))
            described, created = "local source", 0
        return Record(
            place.name,
            RecordType.LOCAL,
            described,
            created,
            about.stat().st_mtime_ns,
            size_bytes=size,
            in_use=in_use,
            mutable=True,
        )
    return None
