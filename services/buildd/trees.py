"""Trees on disk: layers as the snapshotter stores them, stacked, and snapshots on top of them."""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from buildd.deferred import as_tar, deferred, is_only_copy
from buildd.freezes import Freezes
from buildd.protocol import Tree
from sampan.errors import NotFoundError, SampanError, ServiceGoneError
from sampan.log import log
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.image import Layer
from sampan.resource.snapshot import TRANSIENT_LABEL, Mount, NewLayer
from sampan.resource.storage.snapshots import Layers, Snapshots

# On each snapshot of the builder's: what has it when the builder starts is left from the last one.
LABEL: Final = "sampan.build"

_PREFIX: Final = "build-"
_REMEMBERED: Final = 4096  # stacks
_APPLIED_AT_ONCE: Final = 8
_REMOVE_S: Final = 30.0
_TOLD_S: Final = 5.0  # the end of a build waits so long for its snapshots to go


T = TypeVar("T")


class Storage(Protocol):
    """The snapshotter's clients, as ``sampan.client.services.Services`` has them."""

    @property
    def snapshots(self) -> Snapshots:
        """Snapshots."""

    @property
    def layers(self) -> Layers:
        """Layers."""


class ActiveTree:
    """Satisfies ``protocol.WritableTree``."""

    def __init__(self, freezes: Freezes, key: str, base: Tree, mounts: tuple[Mount, ...]) -> None:
        self._freezes = freezes
        self._base = base
        self.key = key
        self.mounts = mounts
        self.frozen = False
        self.freezing: asyncio.Future[NewLayer | None] | None = None

    async def freeze(self) -> Tree:
        """See ``protocol.WritableTree``: nothing may have it mounted any more."""
        self.freezing = asyncio.ensure_future(self._freezes.freeze(self.key))
        layer = await asyncio.shield(self.freezing)
        self.frozen = True
        base = self._base
        if layer is None:
            return replace(base, unchanged=(*base.unchanged, len(base.layers)))
        made = Layer(layer.descriptor, layer.diff_id)
        if layer.descriptor.digest == layer.diff_id:
            made = deferred(made)
        return replace(base, layers=(*base.layers, made))


class SnapshotTrees:
    """Satisfies ``protocol.Trees``."""

    def __init__(self, storage: Storage, freezes: Freezes) -> None:
        self._storage = storage
        self._freezes = freezes
        # By the chain IDs that were stacked, the latest last: which blobs they are made of, should they be collected.
        self._ready: OrderedDict[str, tuple[Digest, ...]] = OrderedDict()
        self._stacking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._removing: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Remove the snapshots that an earlier builder left. Raises UnavailableError."""
        for left in await self._storage.snapshots.list([f'labels."{LABEL}"']):
            self._drop(left.key)
        await self.close()
        await self._freezes.recover()

    async def close(self) -> None:
        """Wait until the snapshots that nobody uses any more are gone."""
        while self._removing:
            await asyncio.wait(self._removing)
        await self._freezes.close()

    def recorded(self, trees: Iterable[Tree]) -> None:
        """See ``protocol.Trees``."""
        self._freezes.recorded(trees)

    async def ready(self, tree: Tree) -> str:
        """See ``protocol.Trees``.

        A stack that was ready once costs nothing, unless nothing brings its layer back, or other blobs are said to:
        it may be gone, and they may be no such thing.
        """
        if not tree.layers:
            return ""
        chain = chain_ids(layer.diff_id for layer in tree.layers)[-1]
        if is_only_copy(tree):
            await self._stack(tree, chain)
            return chain
        blobs = tuple(layer.descriptor.digest for layer in tree.layers)
        if self._ready.get(chain) == blobs:
            self._ready.move_to_end(chain)
            return chain
        lock = self._stacking.setdefault(chain, asyncio.Lock())
        async with lock:
            if self._ready.get(chain) != blobs:
                await self._stack(tree, chain)
                self._ready[chain] = blobs
                if len(self._ready) > _REMEMBERED:
                    self._ready.popitem(last=False)
        return chain

    async def unproven(self, tree: Tree) -> Sequence[Layer]:
        """Make a tree ready; return those of its layers of which no blob was read for that, as they were here."""
        if not tree.layers:
            return ()
        found = await self._apply(tree)
        await self._storage.layers.stack([layer.diff_id for layer in tree.layers])
        return found

    @asynccontextmanager
    async def writable(self, base: Tree) -> AsyncIterator[ActiveTree]:
        """See ``protocol.Trees``."""
        key, mounts = await self._make(base, read_only=False)
        active = ActiveTree(self._freezes, key, base, mounts)
        self._freezes.expect(key)
        try:
            yield active
        except BaseException:
            # Who learns that a build has failed or was cancelled finds nothing of it.
            await asyncio.wait((self._start(self._give_up(active), f"give up {key}"),), timeout=_TOLD_S)
            raise
        if not active.frozen:
            self._start(self._give_up(active), f"give up {key}")

    def view(self, tree: Tree) -> AbstractAsyncContextManager[str]:
        """See ``protocol.Trees``."""
        return self._view(tree)

    @asynccontextmanager
    async def mounts(self, tree: Tree) -> AsyncIterator[tuple[Mount, ...]]:
        """Yield the mounts of a read-only snapshot of ``tree``."""
        key, mounts = await self._make(tree, read_only=True)
        try:
            yield mounts
        finally:
            self._drop(key)

    @asynccontextmanager
    async def _view(self, tree: Tree) -> AsyncIterator[str]:
        key, _ = await self._make(tree, read_only=True)
        try:
            yield key
        finally:
            self._drop(key)

    async def _make(self, base: Tree, *, read_only: bool) -> tuple[str, tuple[Mount, ...]]:
        """Make a snapshot. What was ready may have been collected as garbage since: then it is made ready again."""
        snapshots = self._storage.snapshots
        make = snapshots.view if read_only else snapshots.prepare
        labels: Mapping[str, str] = {LABEL: "view" if read_only else "step", TRANSIENT_LABEL: "true"}
        key = f"{_PREFIX}{uuid.uuid4().hex}"
        for last in (False, True):
            chain = await self.ready(base)
            making = asyncio.ensure_future(make(key, chain or None, labels))
            try:
                return key, await asyncio.shield(making)
            except NotFoundError:
                self._ready.pop(chain, None)
                if last or not chain:
                    raise
            except ServiceGoneError:
                # Nobody else knows the key: if it is there when the snapshotter is back, it was made.
                if last:
                    self._drop(key)
                    raise
                with suppress(NotFoundError):
                    return key, await snapshots.mounts(key)
            except BaseException:
                # The reply may be what was lost.
                self._drop(key, making)
                raise
        raise AssertionError("unreachable")

    async def _give_up(self, active: ActiveTree) -> None:
        await self._remove(active.key, active.freezing)
        await self._freezes.give_up(active.key, asked=active.freezing is not None)

    def _drop(self, key: str, busy: "asyncio.Future[T] | None" = None) -> "asyncio.Task[None]":
        """Have a snapshot removed; there is no need to wait for it. It goes after what is still ``busy`` with it."""
        return self._start(self._remove(key, busy), f"remove {key}")

    def _start(self, work: Coroutine[None, None, None], name: str) -> "asyncio.Task[None]":
        removing = asyncio.create_task(work, name=name)
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)
        return removing

    async def _remove(self, key: str, busy: "asyncio.Future[T] | None") -> None:
        if busy is not None:
            await asyncio.gather(busy, return_exceptions=True)
        try:
            async with asyncio.timeout(_REMOVE_S):
                await self._storage.snapshots.remove(key)
        except NotFoundError:
            return
        except (SampanError, TimeoutError) as error:  # the next start removes it
            log.warning("cannot remove a snapshot of a build", key=key, error=str(error))

    async def _stack(self, tree: Tree, chain: str) -> None:
        diff_ids = [layer.diff_id for layer in tree.layers]
        layers = self._storage.layers
        if not is_only_copy(tree):
            with suppress(NotFoundError):
                await self._storage.snapshots.stat(chain)
                return
        with suppress(NotFoundError):  # a layer is not stored
            await layers.stack(diff_ids)
            return
        await self._apply(tree)
        await layers.stack(diff_ids)

    async def _apply(self, tree: Tree) -> Sequence[Layer]:
        """Store the layers of a tree, and return those that were stored already."""
        turns, layers = asyncio.Semaphore(_APPLIED_AT_ONCE), self._storage.layers
        try:
            async with asyncio.TaskGroup() as group:
                applying = [
                    (layer, group.create_task(_apply(layers, layer, turns), name=f"apply {layer.diff_id}"))
                    for layer in {layer.diff_id: layer for layer in tree.layers}.values()
                ]
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        return [layer for layer, task in applying if task.result()]


async def _apply(layers: Layers, layer: Layer, turns: asyncio.Semaphore) -> bool:
    """Store a layer; say whether it was here."""
    existed = False
    async with turns, aclosing(layers.apply(as_tar(layer).descriptor, layer.diff_id)) as steps:
        async for step in steps:
            existed = step.existed
    return existed


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
