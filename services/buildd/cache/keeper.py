"""What keeps the layers of results: lasting leases of imaged's, one for each record.

A lease has its record's ID behind a prefix, so that the cache never takes the builder's other leases for its own.
"""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from buildd.deferred import is_deferred
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.content import LastingLease
from sampan.resource.image import Layer
from sampan.resource.storage.images import Leases
from sampan.resource.storage.snapshots import Layers

OWNER: Final = "buildd"
_PREFIX: Final = "build-cache-"


class Keeper(Protocol):
    """Keeps layers, blobs and stacks alike, for owners that outlive every process."""

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        """Keep ``layers`` under ``id`` from now on; safe to repeat.

        Raises:
            NotFoundError: one of them is nowhere.
        """

    async def release(self, ids: Sequence[str]) -> None:
        """Keep them no longer; no error for one that is not there."""

    async def kept(self) -> Collection[str]:
        """Return all IDs that something is kept under."""


class LeaseKeeper:
    """Satisfies ``Keeper``."""

    def __init__(self, leases: Leases, layers: Layers) -> None:
        self._leases = leases
        self._layers = layers

    async def keep(self, id: str, layers: Sequence[Layer]) -> None:
        """See ``Keeper``."""
        digests = tuple(each.descriptor.digest for each in layers if not is_deferred(each))
        await self._leases.put(LastingLease(_PREFIX + id, OWNER, digests, tuple(each.diff_id for each in layers)))

    async def release(self, ids: Sequence[str]) -> None:
        """See ``Keeper``."""
        removed = await self._leases.remove(OWNER, [_PREFIX + each for each in ids])
        if not removed.stacks:
            return
        try:
            await self._layers.unstack(removed.stacks)
        except SampanError as error:  # the next pass of garbage collection finds them
            log.warning("stacks of the build cache are not removed yet", error=str(error))

    async def kept(self) -> Collection[str]:
        """See ``Keeper``."""
        leases = await self._leases.list(OWNER)
        return {each.id.removeprefix(_PREFIX) for each in leases if each.id.startswith(_PREFIX)}
