"""Which stacked snapshots nothing needs: arithmetic on rows.

Needed is the stack of every root (an image, or a lease for one to come), everything that is not stacked here (active
snapshots and views, whoever's they are, and what a containerd has committed), what a label keeps, and the parents of
all these.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sampan.disk import HOLD, LABEL, SNAPSHOT, Holder, Root
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Node:
    """A snapshot, as far as marking goes."""

    id: int
    key: str
    parent: int | None
    diff_id: str | None  # None: not stacked; it has a directory of its own
    label: str | None  # one that keeps it


def doomed(nodes: Iterable[Node], roots: Iterable[Root]) -> list[str]:
    """Return the stacked snapshots that nothing needs, children before parents."""
    by_id = {node.id: node for node in nodes}
    rooted = {chain for root in roots for chain in chain_ids(map(Digest, root.diff_ids))}
    needed: set[int] = set()
    for node in by_id.values():
        if node.diff_id is None or node.label is not None or node.key in rooted:
            _mark(by_id, node.id, needed)
    # A parent is there before its children, and rows are numbered as they come.
    return [by_id[number].key for number in sorted(by_id.keys() - needed, reverse=True)]


def _mark(by_id: Mapping[int, Node], start: int | None, needed: set[int]) -> None:
    while start is not None and start not in needed:
        needed.add(start)
        start = by_id[start].parent


def layer_holders(nodes: Sequence[Node], roots: Iterable[Root], held: Mapping[str, int]) -> dict[str, list[Holder]]:
    """Return who needs each layer, by diff ID.

    Args:
        nodes: all snapshots.
        roots: as for ``doomed``.
        held: until when somebody may still stack a layer, by diff ID, in nanoseconds since the epoch.
    """
    by_id = {node.id: node for node in nodes}
    holders: dict[str, dict[Holder, None]] = {}
    for root in roots:
        for diff_id in root.diff_ids:
            holders.setdefault(diff_id, {})[root.holder] = None
    for node in nodes:
        if node.diff_id is not None and node.label is None:
            continue
        holder = Holder(SNAPSHOT, node.key) if node.diff_id is None else Holder(LABEL, node.label or "")
        below: int | None = node.id
        while below is not None:
            if (layer := by_id[below].diff_id) is not None:
                holders.setdefault(layer, {})[holder] = None
            below = by_id[below].parent
    for layer, until_ns in held.items():
        holders.setdefault(layer, {})[Holder(HOLD, expires_ns=until_ns)] = None
    return {layer: list(found) for layer, found in holders.items()}
