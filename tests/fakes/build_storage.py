"""imaged and the snapshotter as the builder's snapshots need them: what is kept, by whom, and what goes when.

Satisfies ``buildd.trees.Storage`` and ``buildd.freezes.Storage``. Both outlive the builder, whose life may end before
each step of theirs.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Self

from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, ServiceGoneError, UnavailableError
from sampan.oci.chain import chain_ids
from sampan.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.resource.snapshot import Mount, NewLayer
from tests.fakes.crashes import Steps


def made_of(files: str, *, deferred: bool = False) -> NewLayer:
    """Return the layer that a snapshot with these files becomes; a deferred one has no blob."""
    if deferred:
        diff_id = Digest.of(files.encode())
        return NewLayer(Descriptor(OCI_LAYER, diff_id, len(files)), diff_id, len(files))
    blob = f"blob of {files}".encode()
    return NewLayer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(files.encode()), len(files))


@dataclass
class FakeBuildStorage:
    """What both have. ``gone`` calls find that the content store has gone away under them."""

    steps: Steps = field(default_factory=Steps)
    snapshots_here: dict[str, str] = field(default_factory=dict)  # files by key
    writes: str = "files"  # what steps write into their snapshots
    frozen: dict[str, NewLayer | None] = field(default_factory=dict)
    held: dict[Digest, int] = field(default_factory=dict)  # layers, and how many want to stack each
    stacked: dict[Digest, Digest] = field(default_factory=dict)  # the top layer of each chain
    blobs: set[Digest] = field(default_factory=set)
    unleased: set[Digest] = field(default_factory=set)  # blobs that are kept for a day
    here: dict[str, LastingLease] = field(default_factory=dict)
    gone: int = 0
    freezing: asyncio.Event = field(default_factory=asyncio.Event)
    may_freeze: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_freeze.set()

    @property
    def snapshots(self) -> Self:
        return self

    @property
    def layers(self) -> Self:
        return self

    @property
    def differ(self) -> Self:
        return self

    @property
    def leases(self) -> "FakeLeases":
        return FakeLeases(self)

    def left(self) -> list[str]:
        """Return all that is on disk."""
        return [
            *(f"snapshot {key}" for key in self.snapshots_here),
            *(f"blob {digest}" for digest in self.blobs),
            *(f"layer {diff_id}" for diff_id in self.held),
            *(f"stack {chain}" for chain in self.stacked),
            *(f"lease {lease}" for lease in self.here),
        ]

    async def prepare(self, key: str, parent: str | None, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        await self.step("prepare")
        self.snapshots_here[key] = self.writes
        return ()

    async def list(self, filters: Sequence[str]) -> Sequence[SimpleNamespace]:
        return [SimpleNamespace(key=key) for key in self.snapshots_here]

    async def stat(self, key: str) -> None:
        if key not in self.stacked:
            raise NotFoundError(key)

    async def remove(self, key: str) -> None:
        await self.step("remove a snapshot")
        if self.snapshots_here.pop(key, None) is None:
            raise NotFoundError(key)

    async def freeze(
        self,
        key: str,
        exclude: Sequence[str],
        lease: str = "",
        rewrite_timestamp: int | None = None,
        defer_bytes: int = 0,
    ) -> NewLayer | None:
        await self.step("freeze")
        if key in self.frozen:
            return self.frozen[key]
        if key not in self.snapshots_here:
            raise NotFoundError(key)
        self.freezing.set()
        await self.may_freeze.wait()
        files = self.snapshots_here[key]
        deferred = 0 < defer_bytes <= len(files)
        layer = made_of(files, deferred=deferred) if files else None
        if layer is not None and not deferred:
            self._hold_blob(layer.descriptor.digest, lease)
        if self.gone:
            self.gone -= 1
            raise UnavailableError("the content store went away")
        await self.step("adopt")
        del self.snapshots_here[key]
        self.frozen[key] = layer
        if layer is not None:
            self.held[layer.diff_id] = self.held.get(layer.diff_id, 0) + 1
        await self.step("answer a freeze")
        return layer

    def _hold_blob(self, digest: Digest, lease: str) -> None:
        if not lease:
            self.unleased.add(digest)
        elif lease not in self.here:
            raise UnavailableError(f"lease {lease!r} is over")
        else:
            held = self.here[lease]
            self.here[lease] = LastingLease(held.id, held.owner, (*held.digests, digest), held.diff_ids)
        self.blobs.add(digest)

    async def stack(self, diff_ids: Sequence[Digest]) -> str:
        await self.step("stack")
        for diff_id in diff_ids:
            if diff_id not in self.held:
                raise NotFoundError(f"layer {diff_id} is not stored")
        chains = chain_ids(diff_ids)
        self.stacked |= zip(chains, diff_ids, strict=True)
        for diff_id in set(diff_ids):
            self.held[diff_id] = max(0, self.held[diff_id] - 1)
        return chains[-1]

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> None:
        await self.step("unstack")
        for stack in stacks:
            for chain in stack:
                self.stacked.pop(Digest(chain), None)
        self._drop_layers()

    def collect(self) -> None:
        """Remove stacks and layers that nothing needs, as a pass of garbage collection does."""
        needed = {chain for lease in self.here.values() for chain in chain_ids(lease.diff_ids)}
        self.stacked = {chain: top for chain, top in self.stacked.items() if chain in needed}
        self._drop_layers()

    def _drop_layers(self) -> None:
        used = set(self.stacked.values())
        self.held = {each: holds for each, holds in self.held.items() if holds or each in used}

    async def step(self, name: str) -> None:
        self.steps.step(name)
        await asyncio.sleep(0)

    def drop_unused(self) -> None:
        self.blobs &= self.unleased | {digest for lease in self.here.values() for digest in lease.digests}


@dataclass
class FakeLeases:
    """Satisfies ``resource.storage.images.Leases``."""

    storage: FakeBuildStorage

    async def put(self, lease: LastingLease) -> None:
        if not lease.id or not lease.owner:
            raise InvalidArgumentError("a lasting lease has a name and an owner")
        await self.storage.step("put a lease")
        for digest in lease.digests:
            if digest not in self.storage.blobs:
                raise NotFoundError(f"content {digest} does not exist")
        if lease.id in self.storage.here and self.storage.here[lease.id].owner != lease.owner:
            raise AlreadyExistsError(lease.id)
        self.storage.here[lease.id] = lease
        self.storage.unleased -= set(lease.digests)
        self.storage.drop_unused()

    async def list(self, owner: str) -> Sequence[LastingLease]:
        return tuple(
            sorted((each for each in self.storage.here.values() if each.owner == owner), key=lambda one: one.id)
        )

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        await self.storage.step("remove leases")
        if self.storage.gone:
            self.storage.gone -= 1
            raise ServiceGoneError("imaged went away")
        wanted = set(ids)
        gone = [self.storage.here.pop(each.id) for each in await self.list(owner) if each.id in wanted]
        left = {chain for lease in self.storage.here.values() for chain in chain_ids(lease.diff_ids)}
        self.storage.drop_unused()
        stacks: list[tuple[Digest, ...]] = []
        for stack in sorted((chain_ids(each.diff_ids) for each in gone), key=len):
            rest = tuple(chain for chain in stack if chain not in left)
            left.update(rest)
            stacks += [rest] if rest else []
        return RemovedLeases(tuple(reversed(stacks)))  # what stands on another one goes before that
