"""Modes of mounts, and mounts that are taken over from another container."""

from collections.abc import Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container import MountPoint
from sampan.resource.container_spec import Mount, MountType

PROPAGATIONS: Final = frozenset({"shared", "slave", "private", "rshared", "rslave", "rprivate"})
# Of each kind, a mode has one word at most.
_KINDS_OF_WORDS: Final = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    frozenset({"copy", "nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
    PROPAGATIONS,
)
MODES: Final = frozenset[str]().union(*_KINDS_OF_WORDS)


def parse_mode(mode: str) -> list[str]:
    """Return the words of ``ro,z``. Raises InvalidArgumentError: one that is unknown, or two of one kind."""
    words = [word for word in mode.split(",") if word]
    if not MODES.issuperset(words) or any(len(kind.intersection(words)) > 1 for kind in _KINDS_OF_WORDS):
        raise InvalidArgumentError(f"invalid mode: {mode}")
    return words


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Parse ``container[:ro|rw…]``: whose volumes, and whether they are read-only.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown mode.
    """
    container, _, mode = text.partition(":")
    if not container:
        raise InvalidArgumentError(f"invalid volumes-from specification: '{text}'")
    return container, "ro" in parse_mode(mode)


def inherited(points: Iterable[MountPoint], own: Iterable[Mount], *, read_only: bool) -> list[Mount]:
    """Return the mounts that ``--volumes-from`` takes over; targets in ``own`` win."""
    taken = {mount.target for mount in own}
    result = []
    for point in points:
        if point.target in taken or point.type is MountType.TMPFS:
            continue
        named = point.type is MountType.VOLUME
        result.append(
            Mount(
                type=point.type,
                source=point.name if named else point.source,
                target=point.target,
                read_only=read_only or not point.read_write,
                propagation="" if named else point.propagation,
                volume_driver=point.driver,
                no_copy=True,
            )
        )
    return result
