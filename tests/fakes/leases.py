"""Lasting leases in memory."""

from collections.abc import Iterable, Sequence

from sampan.errors import AlreadyExistsError, InvalidArgumentError
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease, RemovedLeases


class FakeLeases:
    """Satisfies ``resource.storage.Leases``; every blob is here, and nobody else has a stack."""

    def __init__(self) -> None:
        self.leases: dict[str, LastingLease] = {}

    async def put(self, lease: LastingLease) -> None:
        if not lease.id or not lease.owner:
            raise InvalidArgumentError("a lasting lease has a name and an owner")
        if lease.id in self.leases and self.leases[lease.id].owner != lease.owner:
            raise AlreadyExistsError(f"lease {lease.id} is somebody else's")
        self.leases[lease.id] = lease

    async def list(self, owner: str) -> Sequence[LastingLease]:
        return tuple(sorted((each for each in self.leases.values() if each.owner == owner), key=lambda each: each.id))

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        gone = [self.leases.pop(each.id) for each in await self.list(owner) if each.id in set(ids)]
        left = {chain for each in self.leases.values() for chain in chain_ids(each.diff_ids)}
        stacks: list[tuple[Digest, ...]] = []
        for stack in sorted((chain_ids(each.diff_ids) for each in gone), key=len):
            rest = tuple(chain for chain in stack if chain not in left)
            left.update(rest)
            stacks += [rest] if rest else []
        return RemovedLeases(tuple(reversed(stacks)))  # what stands on another one goes before that
