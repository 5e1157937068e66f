"""Who needs something unpacked: the snapshotter keeps what they name, and nothing else of ours.

Runs inside transactions of ``Store``. A lease ends in the transaction that makes its image, so that there
is no moment at which neither of them is seen.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imaged.content import store as rows
from sampan.disk import CACHE, IMAGE, LEASE, Holder, Root
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference


def image_holders(db: sqlite3.Connection) -> dict[str, Holder]:
    """Return all images, by ID; their names become those that people know by ``familiar``."""
    names: dict[str, list[str]] = {}
    for image, reference in db.execute("SELECT image, reference FROM names ORDER BY canonical, reference"):
        names.setdefault(image, []).append(reference)
    ids = [row[0] for row in db.execute("SELECT id FROM images ORDER BY id")]
    return {image: Holder(IMAGE, image, tuple(names.get(image, ()))) for image in ids}


def lease_holders(db: sqlite3.Connection) -> dict[str, Holder]:
    """Return all leases, by ID; one that is not complete does not expire, nor does a lasting one."""
    holders = {}
    for row in db.execute("SELECT id, expires_ns, complete, abandoned, source, owner FROM leases ORDER BY id"):
        if row["owner"]:
            holders[row["id"]] = Holder(CACHE, row["id"], (row["owner"],))
            continue
        purpose = row["source"] or "image made here"
        purpose = f"{purpose}, broken off" if row["abandoned"] else purpose
        holders[row["id"]] = Holder(LEASE, row["id"], (purpose,), row["expires_ns"] if row["complete"] else 0)
    return holders


def familiar(holder: Holder) -> Holder:
    """Return an image with the names that people know: not in a transaction, for there may be thousands."""
    if holder.kind != IMAGE:
        return holder
    return replace(holder, names=tuple(parse_reference(name).familiar for name in holder.names))


def roots(db: sqlite3.Connection) -> list[Root]:
    """Return the images that have layers, and the leases for some that will have, or that keep some."""
    stacks: dict[str, list[str]] = {}
    for image, diff_id in db.execute("SELECT image, diff_id FROM image_layers ORDER BY image, position"):
        stacks.setdefault(image, []).append(diff_id)
    images, leases = image_holders(db), lease_holders(db)
    found = [Root(images[image], tuple(stack)) for image, stack in stacks.items()]
    return found + [Root(leases[lease], tuple(stack)) for lease, stack in rows.leased_layers(db).items()]


def kept_chains(db: sqlite3.Connection, bases: Iterable[Digest]) -> frozenset[Digest]:
    """Return the chain IDs of all that roots stand on whose lowest layer is one of ``bases``."""
    lowest = set(bases)
    stacks: dict[str, list[Digest]] = {}
    query = (
        "SELECT image, diff_id FROM image_layers WHERE image IN"
        " (SELECT image FROM image_layers WHERE position = 0 AND diff_id = ?) ORDER BY image, position"
    )
    for base in lowest:
        for image, diff_id in db.execute(query, (base,)):
            stacks.setdefault(image, []).append(Digest(diff_id))
    found = [*stacks.values(), *rows.leased_layers(db, lowest).values()]
    return frozenset(chain for stack in found for chain in chain_ids(stack))


def unneeded(db: sqlite3.Connection, stood: Sequence[Sequence[Digest]]) -> list[tuple[Digest, ...]]:
    """Return for each stack, layers base first, the chain IDs that nothing stands on any more, base first.

    Of what several of them share the last one has it, as it goes with that.
    """
    kept = kept_chains(db, (stack[0] for stack in stood if stack))
    seen: set[Digest] = set()
    stacks: list[tuple[Digest, ...]] = []
    for stack in reversed(stood):
        stacks.append(tuple(each for each in chain_ids(stack) if each not in kept and each not in seen))
        seen.update(stacks[-1])
    return stacks[::-1]
