"""Images that are held for builds: those without a name a while longer, unless a prune takes them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

from buildd.cache.keeper import Keeper
from buildd.cache.model import Record, RecordType, record_id
from buildd.sources.documents import FoundImage
from sampan.errors import SampanError, UnavailableError
from sampan.log import log
from sampan.oci.platform import Platform

_HELD_S: Final = 600.0  # after the last use

Key = tuple[str, Platform]  # a reference, and what the image is to be for

# Has nothing stay of an image, which is called by the ID of its record, on account of a lease.
Drop: TypeAlias = Callable[[str, FoundImage, str], Awaitable[None]]


async def _leave(_id: str, _image: FoundImage, _lease: str) -> None:
    """Leave it to the end of the lease."""


class _Held:
    """One image, and the task in whose keeping it is."""

    def __init__(self, image: FoundImage, reference: str) -> None:
        self.id = record_id(secrets.token_bytes(25))
        self.image = image
        self.reference = reference
        self.begun_ns = self.used_ns = time.time_ns()
        self.pruned = self.dropped = False
        self.users = 0
        self.over = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class HeldImages:
    """Images by what they were asked for. Each is kept by a lease of its own. Satisfies ``cache.model.Shelf``."""

    def __init__(self, idle_s: float = _HELD_S, drop: Drop = _leave) -> None:
        """What a prune takes is told to ``drop``."""
        self._idle_s = idle_s
        self._drop = drop
        self._held: dict[Key, _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: Key) -> FoundImage | None:
        """Return one, which is held for a while from now on."""
        held = self._held.get(key)
        if held is None:
            return None
        self._rest(held)
        return held.image

    async def add(self, keys: Iterable[Key], image: FoundImage, lease: AbstractAsyncContextManager[str]) -> None:
        """Hold an image that ``lease`` keeps while it is entered. Raises what entering raises."""
        keys = tuple(keys)
        held = _Held(image, keys[0][0])
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.task = asyncio.create_task(self._keep(held, lease, kept), name="hold an image")
        self._tasks.add(held.task)
        held.task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.shield(kept)
        except asyncio.CancelledError:
            held.task.cancel()
            raise
        for key in keys:
            self._held[key] = held
        self._rest(held)

    def has(self, image: FoundImage) -> bool:
        """Say whether an image is held here: the very object, as ``get`` returns it."""
        return self._of(image) is not None

    @asynccontextmanager
    async def used(self, image: FoundImage) -> AsyncIterator[None]:
        """Hold an image at least as long as this is entered; one that is not held here needs it not."""
        found = self._of(image)
        if found is None:
            yield
            return
        found.users += 1
        self._rest(found)
        try:
            yield
        finally:
            found.users -= 1
            self._rest(found)

    def _of(self, image: FoundImage) -> _Held | None:
        return next((held for held in self._held.values() if held.image is image), None)

    async def records(self) -> Sequence[Record]:
        """Return what is held; the layers count here if no result of a step has them."""
        return [
            Record(
                held.id,
                RecordType.INTERNAL,
                f"pulled from {held.reference}",
                held.begun_ns,
                held.used_ns,
                layers=held.image.layers,
                in_use=held.users > 0,
            )
            for held in set(self._held.values())
            if not held.over.is_set()
        ]

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        gone = {held for held in self._held.values() if held.id in ids and not held.users and held.task is not None}
        for held in gone:
            held.pruned = True
            self._forget(held)
            held.over.set()
        if gone:
            await asyncio.wait([held.task for held in gone if held.task is not None])
        return [held.id for held in gone if held.dropped]

    async def close(self) -> None:
        """Let go of all."""
        for held in set(self._held.values()):
            held.over.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _rest(self, held: _Held) -> None:
        """Begin anew to wait until nobody has used it for a while."""
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        held.used_ns = time.time_ns()
        if not held.users:
            held.timer = asyncio.get_running_loop().call_later(self._idle_s, held.over.set)

    async def _keep(self, held: _Held, lease: AbstractAsyncContextManager[str], kept: "asyncio.Future[None]") -> None:
        try:
            async with lease as name:
                kept.set_result(None)
                await held.over.wait()
                if held.pruned:
                    await self._drop(held.id, held.image, name)
                    held.dropped = True
        except SampanError as error:
            if not kept.done():
                kept.set_exception(error)
            elif not isinstance(error, UnavailableError):
                log.warning("an image is not held any more", image=held.image.target.digest, error=str(error))
        finally:
            if not kept.done():
                kept.cancel()
            if held.timer is not None:
                held.timer.cancel()
            self._forget(held)

    def _forget(self, held: _Held) -> None:
        for key in [key for key, each in self._held.items() if each is held]:
            del self._held[key]


class _Named:
    """An image that is here by name, and who uses it."""

    def __init__(self, image: FoundImage) -> None:
        self.image = image
        self.lease = record_id(secrets.token_bytes(25))
        self.users = 0
        self.kept = False
        self.keeping = asyncio.Lock()


class NamedImages:
    """Images that are here by name, kept for the builds that have found them whatever becomes of the name.

    No build waits until it has let go. What a kill leaves goes at the next start with the leases that no record of the
    cache has.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._named: dict[Key, _Named] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    def get(self, key: Key) -> FoundImage | None:
        """Return one that a build uses at the moment."""
        named = self._named.get(key)
        return named.image if named is not None and named.kept else None

    @asynccontextmanager
    async def used(self, key: Key, image: FoundImage) -> AsyncIterator[None]:
        """Keep the layers of an image as long as this is entered.

        Raises:
            NotFoundError: they are gone.
        """
        named = self._named.setdefault(key, _Named(image))
        named.users += 1
        try:
            async with named.keeping:
                if not named.kept:
                    await self._keeper.keep(named.lease, image.layers)
                    named.kept = True
            yield
        finally:
            named.users -= 1
            if not named.users:
                del self._named[key]
                task = asyncio.create_task(self._keeper.release([named.lease]), name="let go of a build's image")
                self._releasing.add(task)
                task.add_done_callback(self._releasing.discard)

    async def close(self) -> None:
        """Wait until all that nobody uses is let go of."""
        while self._releasing:
            await asyncio.wait(self._releasing)
