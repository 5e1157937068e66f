"""What freezes of snapshots make, from before each begins until a record keeps it, or nobody does.

Every snapshot that may be frozen has a lease of imaged's with its key, made while the step is at work. The blob that
comes of the freeze is held by it, so that a kill at any moment leaves a lease that the next start finds, and by its key
what the snapshotter has made of the snapshot. What a record keeps and what was stacked needs the lease no more. What no
record keeps, such as a client's directory that a step had mounted, is given up when no build runs.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Final, Protocol

from buildd.cache.keeper import OWNER
from buildd.protocol import Tree
from sampan.errors import NotFoundError, SampanError, UnavailableError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease
from sampan.resource.snapshot import NewLayer
from sampan.resource.storage.images import Leases
from sampan.resource.storage.snapshots import Differ, Layers

_PREFIX: Final = "build-freeze-"


class Storage(Protocol):
    """The clients that are needed, as ``sampan.client.services.Services`` has them."""

    @property
    def leases(self) -> Leases:
        """Lasting leases."""

    @property
    def layers(self) -> Layers:
        """Layers."""

    @property
    def differ(self) -> Differ:
        """What makes layers of snapshots."""


class Freezes:
    """All of them, by the keys of their snapshots."""

    def __init__(self, storage: Storage, defer_bytes: int = 0) -> None:
        """Blobs of layers of ``defer_bytes`` are not made yet; 0: all are made at once."""
        self._storage = storage
        self._defer_bytes = defer_bytes
        self._expected: dict[str, asyncio.Task[None]] = {}  # makes the lease
        self._made: dict[str, Digest] = {}  # diff IDs of what no record keeps yet
        self._left: set[str] = set()  # could not be given up
        self._ending: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Give up what an earlier builder left; the snapshots that it had not frozen are removed.

        Raises:
            UnavailableError: imaged does not answer.
        """
        leases = await self._storage.leases.list(OWNER)
        self._left.update(each.id.removeprefix(_PREFIX) for each in leases if each.id.startswith(_PREFIX))
        self.give_up_rest()
        await self.close()

    async def close(self) -> None:
        """Wait for what goes on in the background."""
        while self._ending:
            await asyncio.wait(self._ending)

    def expect(self, key: str) -> None:
        """Say that a snapshot may be frozen; it will be, or will be given up."""
        put = self._storage.leases.put(LastingLease(_PREFIX + key, OWNER))
        self._expected[key] = asyncio.create_task(put, name=f"lease for {key}")

    async def freeze(self, key: str) -> NewLayer | None:
        """Freeze a snapshot that is expected; see ``Differ.freeze``, whose errors it raises."""
        await asyncio.shield(self._expected[key])
        freeze = self._storage.differ.freeze
        try:
            layer = await freeze(key, (), _PREFIX + key, None, self._defer_bytes)
        except UnavailableError:  # the content store went away under it: what was done of it can be done again
            layer = await freeze(key, (), _PREFIX + key, None, self._defer_bytes)
        del self._expected[key]
        if layer is None:
            self._start(self._end_leases([key]), "end the lease of a freeze")
        else:
            self._made[key] = layer.diff_id
        return layer

    def recorded(self, trees: Iterable[Tree]) -> None:
        """Say that records keep these trees, which are ready to be mounted."""
        kept = {layer.diff_id for tree in trees for layer in tree.layers}
        done = [key for key, diff_id in self._made.items() if diff_id in kept]
        for key in done:
            del self._made[key]
        if done:
            self._start(self._end_leases(done), "end leases of freezes")

    async def give_up(self, key: str, *, asked: bool = True) -> None:
        """Let go of what has come of a snapshot that is there no more. If that fails, it is tried again later.

        If nobody has ``asked`` for a freeze there is the lease alone.
        """
        if (expected := self._expected.pop(key, None)) is not None:
            await asyncio.wait((expected,))
        await self._try(key, self._made.pop(key, None), asked=asked)

    def give_up_rest(self) -> None:
        """Give up, in the background, what no record keeps: there is no build now that uses it."""
        for key in (*self._made, *self._left):
            self._start(self._try(key, self._made.pop(key, None)), f"give up {key}")
        self._left.clear()

    async def _try(self, key: str, diff_id: Digest | None, *, asked: bool = True) -> None:
        try:
            if diff_id is None and asked:
                diff_id = await self._find(key)
            await self._give_up(key, diff_id)
        except SampanError as error:
            self._left.add(key)
            log.warning("what a build has made stays for now", key=key, error=str(error))

    async def _find(self, key: str) -> Digest | None:
        try:
            layer = await self._storage.differ.freeze(key, (), _PREFIX + key, None, self._defer_bytes)
        except NotFoundError:
            return None
        return None if layer is None else layer.diff_id

    async def _give_up(self, key: str, diff_id: Digest | None) -> None:
        if diff_id is not None:
            # What has had an owner, and was stacked, goes with the owner, unless it has others.
            await self._storage.leases.put(LastingLease(_PREFIX + key, OWNER, (), (diff_id,)))
            with suppress(NotFoundError):
                await self._storage.layers.stack([diff_id])
        await self._end([key])

    async def _end_leases(self, keys: Collection[str]) -> None:
        try:
            await self._end(keys)
        except SampanError as error:
            self._left.update(keys)
            log.warning("leases of freezes stay for now", keys=list(keys), error=str(error))

    async def _end(self, keys: Iterable[str]) -> None:
        removed = await self._storage.leases.remove(OWNER, [_PREFIX + key for key in keys])
        if removed.stacks:
            await self._storage.layers.unstack(removed.stacks)

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
