"""Lasting leases: what a service keeps for as long as it likes, as the builder keeps the results of steps.

They are rows beside those of operations, and nothing that ends such a lease (time, a client's death, a restart, an
image that gets its name) knows them: see ``store.lease_source``.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from imaged.gc.roots import unneeded
from sampan.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.resource.content import LastingLease, RemovedLeases
from sampan.store.database import Store

_NEVER_NS: Final = (1 << 63) - 1


class LastingLeases:
    """Satisfies ``resource.storage.images.Leases``."""

    def __init__(self, store: Store, content: ContentStore, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._content = content
        self._now_ns = now_ns

    async def put(self, lease: LastingLease) -> None:
        """See ``resource.storage.images.Leases``."""
        if not lease.id or not lease.owner:
            raise InvalidArgumentError("a lasting lease needs a name and an owner")
        with storing("lease"):
            dropped = await self._store.write(lambda db: _put(db, lease, self._now_ns()))
        if dropped:
            await self._content.drop_unused(lambda _: dropped)

    async def list(self, owner: str) -> Sequence[LastingLease]:
        """See ``resource.storage.images.Leases``."""
        return await self._store.read(lambda db: _list(db, owner))

    async def remove(self, owner: str, ids: Iterable[str]) -> RemovedLeases:
        """See ``resource.storage.images.Leases``."""
        asked = tuple(ids) if owner else ()
        stacks: list[tuple[Digest, ...]] = []

        def end(db: sqlite3.Connection) -> list[str]:
            stacks.clear()
            stood = [stack for lease in asked if (stack := _layers(db, owner, lease))]
            digests = rows.delete_leases(db, asked, owner)
            stacks.extend(unneeded(db, stood))
            return digests

        gone = await self._content.drop_unused(end)
        return RemovedLeases(tuple(filter(None, stacks)), sum(gone.values()))


def _put(db: sqlite3.Connection, lease: LastingLease, now_ns: int) -> list[str]:
    """Make a lease, or change it; return the blobs that it has let go of."""
    known = db.execute("SELECT owner FROM leases WHERE id = ?", (lease.id,)).fetchone()
    if known is not None and known["owner"] != lease.owner:
        raise AlreadyExistsError(f"lease {lease.id!r} is not one of {lease.owner}'s")
    for digest in lease.digests:
        if rows.get_blob(db, digest) is None:
            raise NotFoundError(f"content {digest} does not exist, so lease {lease.id!r} cannot hold it")
    if known is None:
        db.execute(
            "INSERT INTO leases (id, expires_ns, complete, source, owner, created_ns) VALUES (?, ?, 1, '', ?, ?)",
            (lease.id, _NEVER_NS, lease.owner, now_ns),
        )
    before = _digests(db, lease.id)
    db.execute("DELETE FROM lease_blobs WHERE lease = ?", (lease.id,))
    rows.hold(db, lease.id, lease.digests)
    for digest in lease.digests:  # what was written for nobody has somebody now, and goes with the lease
        rows.end_hold(db, digest)
    rows.replace_lease_layers(db, lease.id, lease.diff_ids)
    return sorted(set(before) - set(lease.digests))


def _list(db: sqlite3.Connection, owner: str) -> tuple[LastingLease, ...]:
    if not owner:  # those of operations are nobody's
        return ()
    found = db.execute("SELECT id, created_ns FROM leases WHERE owner = ? ORDER BY id", (owner,)).fetchall()
    return tuple(
        LastingLease(row["id"], owner, tuple(_digests(db, row["id"])), _layers(db, owner, row["id"]), row["created_ns"])
        for row in found
    )


def _digests(db: sqlite3.Connection, lease: str) -> list[Digest]:
    found = db.execute("SELECT digest FROM lease_blobs WHERE lease = ? ORDER BY digest", (lease,))
    return [Digest(row[0]) for row in found]


def _layers(db: sqlite3.Connection, owner: str, lease: str) -> tuple[Digest, ...]:
    query = (
        "SELECT diff_id FROM lease_layers JOIN leases ON leases.id = lease WHERE lease = ? AND owner = ?"
        " ORDER BY position"
    )
    return tuple(Digest(row[0]) for row in db.execute(query, (lease, owner)))
