"""What keeps the layers of results: lasting leases of imaged's, one for each record.

A lease has its record's ID behind a prefix, so that the cache never takes the builder's other leases for its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol, Self

from buildd.deferred import is_deferred
from sampan.cancellation import to_the_end
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.content import LastingLease
from sampan.resource.image import Layer
from sampan.resource.storage.images import Leases
from sampan.resource.storage.snapshots import Layers

OWNER: Final = "buildd"
_PREFIX: Final = "build-cache-"
_AGAIN_S: Final = 1.0  # at least, from one try to release them to the next


class Keeper(Protocol):
    """Keeps layers, blobs and stacks alike, for owners that outlive every process."""

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        """Keep ``layers`` under ``id`` from now on; safe to repeat.

        A release that comes after it ends it, whatever has become of it: a caller who is cancelled is told so when
        nothing is under way any more.

        Raises:
            NotFoundError: one of them is nowhere.
        """

    async def release(self, ids: Sequence[str]) -> None:
        """Keep them no longer; no error for one that is not there, and none if that has to wait for imaged."""

    async def kept(self) -> Collection[str]:
        """Return all IDs that something is kept under."""


class LeaseKeeper:
    """Satisfies ``Keeper``. Leave it in the end: what is to be released by then is left to the next start."""

    def __init__(
        self, leases: Leases, layers: Layers, reach: Callable[[], Awaitable[None]], *, again_s: float = _AGAIN_S
    ) -> None:
        """``reach`` returns when imaged can be called, which may be being restarted. Raises UnavailableError."""
        self._leases = leases
        self._layers = layers
        self._reach = reach
        self._again_s = again_s
        self._over: set[str] = set()  # what is to be released
        self._releasing: asyncio.Task[None] | None = None  # what could not be released at once

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._releasing is not None:
            self._releasing.cancel()
            await asyncio.wait((self._releasing,))

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        """See ``Keeper``."""
        digests = tuple(each.descriptor.digest for each in layers if not is_deferred(each))
        diff_ids = tuple(each.diff_id for each in layers)
        await to_the_end(self._leases.put(LastingLease(_PREFIX + id, OWNER, digests, diff_ids)))

    async def release(self, ids: Sequence[str]) -> None:
        """See ``Keeper``."""
        self._over.update(ids)
        if self._over:
            await to_the_end(self._release())

    async def _release(self) -> None:
        """Release all that is to be, or have it done later."""
        if not await self._are_released() and (self._releasing is None or self._releasing.done()):
            self._releasing = asyncio.create_task(self._release_later(), name="release leases of the build cache")

    async def _are_released(self) -> bool:
        over = sorted(self._over)
        try:
            removed = await self._leases.remove(OWNER, [_PREFIX + each for each in over])
        except SampanError as error:
            log.warning("leases of the build cache are not released yet", leases=len(over), error=str(error))
            return False
        self._over.difference_update(over)
        if removed.stacks:
            try:
                await self._layers.unstack(removed.stacks)
            except SampanError as error:  # the next pass of garbage collection finds them
                log.warning("stacks of the build cache are not removed yet", error=str(error))
        return True

    async def _release_later(self) -> None:
        while self._over:
            await asyncio.sleep(self._again_s)  # imaged may be there, and refuse, as with a full disk
            try:
                await self._reach()
            except SampanError:
                continue
            await self._are_released()

    async def kept(self) -> Collection[str]:
        """See ``Keeper``."""
        leases = await self._leases.list(OWNER)
        return {each.id.removeprefix(_PREFIX) for each in leases if each.id.startswith(_PREFIX)}
