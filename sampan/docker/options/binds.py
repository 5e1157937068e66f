"""Mounts as texts, ``source:target:mode``, and mounts that are taken over from another container."""

from collections.abc import Iterable
from typing import Final

from sampan.docker.options.mounts import PROPAGATIONS, check_mount, normal
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container
from sampan.resource.container_spec import Mount, MountType

_COPY: Final = frozenset({"copy", "nocopy"})
# Of each kind, a mode has one word at most.
_KINDS_OF_WORDS: Final = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    _COPY,
    frozenset({"consistent", "cached", "delegated"}),
    PROPAGATIONS,
)
_MODES: Final = frozenset[str]().union(*_KINDS_OF_WORDS)


def parse_bind(text: str, volume_driver: str = "") -> Mount:
    """Parse the argument of ``-v``: ``[source:]target`` or ``source:target:mode``.

    A source that is an absolute path is bound, and made if it is missing; any other is the name of a volume, which
    ``volume_driver``, the container's, makes if there is none.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    parts = text.split(":")
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _is_mode(parts[1])):
        raise _invalid(text)
    source, target, mode = ("", *parts, "") if len(parts) == 1 else (*parts, "")[:3]
    words = _parse_mode(mode)
    absolute = source.startswith("/")
    mount = Mount(
        type=MountType.BIND if absolute else MountType.VOLUME,
        source=normal(source) if absolute else source,
        target=normal(target) if target else "",
        read_only="ro" in words,
        propagation=next((word for word in words if word in PROPAGATIONS), ""),
        create_source=absolute,
        no_copy="nocopy" in words,
        volume_driver="" if absolute else volume_driver,
        mode=mode,
    )
    try:
        if absolute and not _COPY.isdisjoint(words):
            raise InvalidArgumentError(  # "copy" too, which no field of the mount shows
                'invalid mount config for type "bind": field VolumeOptions must not be specified'
            )
        check_mount(mount)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{_invalid(text)}: {error}") from error
    return mount


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Parse ``container[:ro|rw…]``: whose volumes, and whether they are read-only.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown mode, or one that those volumes have had since they began.
    """
    container, _, mode = text.partition(":")
    if not container:
        raise InvalidArgumentError(f"invalid volumes-from specification: '{text}'")
    words = _parse_mode(mode)
    if not (PROPAGATIONS | _COPY).isdisjoint(words):
        raise _invalid_mode(mode)
    return container, "ro" in words


def inherited(source: Container, own: Iterable[Mount], *, read_only: bool) -> list[Mount]:
    """Return the mounts of ``source`` that ``--volumes-from`` takes over; targets in ``own`` win."""
    taken = {normal(mount.target) for mount in own}
    asked = {normal(mount.target): mount for mount in source.spec.mounts}
    result = []
    for point in source.mounts:
        if point.target in taken or point.type is MountType.TMPFS:
            continue
        mount = asked.get(point.target)
        if mount is not None and mount.type is MountType.IMAGE:
            result.append(Mount(mount.type, mount.target, mount.image_id, read_only=True, subpath=mount.subpath))
            continue
        named = point.type is MountType.VOLUME
        result.append(
            Mount(
                type=point.type,
                source=point.name if named else point.source,
                target=point.target,
                read_only=read_only or not point.read_write,
                propagation="" if named else point.propagation,
                volume_driver=point.driver if named else "",
                no_copy=named,
                inherited=True,
                subpath=mount.subpath if mount is not None else "",
            )
        )
    return result


def _parse_mode(mode: str) -> list[str]:
    """Return the words of ``ro,z``. Raises InvalidArgumentError: one that is unknown, or two of one kind."""
    if not _is_mode(mode):
        raise _invalid_mode(mode)
    return [word for word in mode.split(",") if word]


def _is_mode(mode: str) -> bool:
    words = mode.split(",") if mode else []
    return _MODES.issuperset(words) and all(sum(word in kind for word in words) <= 1 for kind in _KINDS_OF_WORDS)


def _invalid(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid volume specification: '{text}'")


def _invalid_mode(mode: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid mode: {mode}")
