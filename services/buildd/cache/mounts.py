"""Directories of cache mounts: what ``RUN --mount=type=cache`` shows, from one build to the next.

<data>/<ID>       one directory; IDs are ours, and what a step calls a mount is no part of any path
<data>/new-<ID>   one that is being filled; a start removes it

A directory is made, filled with what the mount begins with, and renamed; then it gets its row. The row goes first, the
directory after it. A mount of one name that begins with something else is another directory.
"""

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from buildd.cache import mount_rows
from buildd.cache.model import Record, record_id
from buildd.llb.ops import CacheMount, Sharing
from buildd.protocol import FileWorker, Output
from sampan.cancellation import to_the_end
from sampan.errors import NotFoundError, SampanError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.store.database import Store
from sampan.sys.beneath import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from sampan.sys.measuring import measure_any
from sampan.sys.trees import remove_tree, removing, walking

_NEW: Final = "new-"
_MODE: Final = 0o755


class CacheMounts:
    """A ``Shelf`` of directories that outlive the steps that they are mounted for."""

    def __init__(
        self,
        directory: Path,
        store: Store,
        files: FileWorker,
        now_ns: Callable[[], int],
        new_id: Callable[[], str] = lambda: record_id(secrets.token_bytes(25)),
    ) -> None:
        self._directory = directory
        self._store = store
        self._files = files
        self._now_ns = now_ns
        self._new_id = new_id
        self._users: Counter[str] = Counter()  # of directories
        # While a mount's directory is found or made; and of locked mounts, while they are mounted.
        self._finding: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._mounted: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def recover(self) -> None:
        """Remove directories without a row, and rows without a directory."""
        self._directory.mkdir(parents=True, exist_ok=True)
        rows = {row.id for row in await self._store.read(mount_rows.every)}
        names = {entry.name for entry in await asyncio.to_thread(lambda: list(os.scandir(self._directory)))}
        lost = sorted(rows - names)
        if lost:
            await self._store.write(lambda db: mount_rows.delete(db, lost))
        for name in sorted(names - rows):
            try:
                await walking(partial(remove_tree, self._directory / name))
            except OSError as error:
                log.warning("cache mount not removed", path=str(self._directory / name), error=error.strerror)

    @asynccontextmanager
    async def mounted(
        self, mount: CacheMount, base: Output | None, base_key: Digest | None, selector: str, description: str
    ) -> AsyncIterator[Path]:
        """Yield the directory of a mount; nobody removes it meanwhile.

        Args:
            mount: its name, and whether others may have it at the same time.
            base: what it begins with; None is an empty directory.
            base_key: what tells ``base`` from others.
            selector: the directory of ``base`` that is meant; empty for its root.
            description: what ``du`` shows.

        Raises:
            NotFoundError: ``base`` does not have the directory.
        """
        begins = "" if base is None else f"{base_key}{selector}"
        place = mount.id, begins
        lock = _lock(self._mounted, place) if mount.sharing is Sharing.LOCKED else asyncio.Lock()
        async with lock:
            name = await self._taken(place, base, selector, description, private=mount.sharing is Sharing.PRIVATE)
            try:
                yield self._directory / name
            finally:
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]

    async def _taken(
        self, place: tuple[str, str], base: Output | None, selector: str, description: str, *, private: bool
    ) -> str:
        """Find or make a directory, and count its user."""
        async with _lock(self._finding, place):
            rows = await self._store.read(lambda db: mount_rows.named(db, *place))
            for row in rows:
                if not private or row.id not in self._users:
                    self._users[row.id] += 1
                    break
            else:
                row = await self._made(place, base, selector, description)
                self._users[row.id] += 1
        try:
            now = self._now_ns()
            # A removal that was under way when the row was read has taken it: then there is nothing to note.
            if await self._store.write(lambda db: mount_rows.used(db, row.id, now), durable=False):
                return row.id
        except BaseException:
            self._let_go(row.id)
            raise
        self._let_go(row.id)
        return await self._taken(place, base, selector, description, private=private)

    async def _made(
        self, place: tuple[str, str], base: Output | None, selector: str, description: str
    ) -> mount_rows.MountRow:
        name = self._new_id()
        new, final = self._directory / f"{_NEW}{name}", self._directory / name
        try:
            await to_the_end(asyncio.to_thread(_make, new))
            if base is not None:
                await self._fill(new, base, selector)
        except BaseException:
            await removing(new)
            raise
        return await to_the_end(self._keep(new, final, place, description))

    async def _keep(self, new: Path, final: Path, place: tuple[str, str], description: str) -> mount_rows.MountRow:
        """Give a directory its name and its row; without a row nobody would find it before the next start."""
        await asyncio.to_thread(new.rename, final)
        now = self._now_ns()
        try:
            return await self._store.write(lambda db: mount_rows.insert(db, final.name, place, description, now))
        except BaseException:
            await removing(final)
            raise

    async def _fill(self, new: Path, base: Output, selector: str) -> None:
        async with self._files.mounted({"": base}) as root:
            source = await asyncio.to_thread(_open, root, selector)
            try:
                # Its owner, mode and attributes are the mount's; whatever it holds is copied as it is.
                command = ("cp", "-a", "--reflink=auto", "-T", f"/proc/self/fd/{source}/.", str(new))
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=(source,), stderr=asyncio.subprocess.PIPE
                )
                try:
                    _, said = await process.communicate()
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
            finally:
                os.close(source)
        if process.returncode:
            raise SampanError(f"a cache mount cannot be filled: {said.decode(errors='replace').strip()}")

    async def records(self) -> Sequence[Record]:
        """See ``Shelf``. Directories that were used since they were last measured are measured."""
        found = []
        for row in await self._store.read(mount_rows.every):
            in_use = row.id in self._users
            size = row.size_bytes
            if in_use or row.measured_ns <= row.used_ns:
                now = self._now_ns()
                size = await walking(partial(measure_any, self._directory / row.id))
                noted = partial(mount_rows.measured, id=row.id, size_bytes=size, now_ns=now)
                await self._store.write(noted, durable=False)
            found.append(row.record(size, in_use=in_use))
        return found

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        gone = [name for name in ids if name not in self._users]
        if not gone:
            return ()
        await to_the_end(self._remove(gone))  # whoever asked for it may leave; without rows nobody finds directories
        return gone

    async def _remove(self, gone: Sequence[str]) -> None:
        await self._store.write(lambda db: mount_rows.delete(db, gone))
        for name in gone:
            await walking(partial(remove_tree, self._directory / name))


def _lock(locks: "WeakValueDictionary[tuple[str, str], asyncio.Lock]", place: tuple[str, str]) -> asyncio.Lock:
    found = locks.get(place)
    if found is None:
        found = locks[place] = asyncio.Lock()
    return found


def _make(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(_MODE)


def _open(root: Path, selector: str) -> int:
    """Return a descriptor of a directory below ``root``; links lead where they lead in it."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return openat2(top, selector.strip("/") or ".", flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f'"{selector}": not found') from error
    finally:
        os.close(top)
