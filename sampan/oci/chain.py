"""Names for stacks of layers.

Reference: OCI image spec 1.1, "Layer ChainID".
"""

from collections.abc import Iterable

from sampan.oci.digest import Digest


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return the chain ID of every prefix of a stack, base first; the last names the whole."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
