"""Mounts that a container asks for: what can be wrong with them, and how they are recorded."""

import posixpath
from pathlib import Path
from typing import Final

from runtimed.volumes.local_driver import check_name
from sampan.errors import InvalidArgumentError
from sampan.resource.container import MountPoint
from sampan.resource.container_spec import ContainerSpec, Mount, MountType

_PROPAGATIONS: Final = frozenset(("", "private", "rprivate", "shared", "rshared", "slave", "rslave"))


def normal(target: str) -> str:
    """Return ``target`` without ``.``, ``..`` and doubled slashes: two targets are one if these are equal."""
    path = posixpath.normpath(target)
    return path[1:] if path.startswith("//") else path


def check_mounts(spec: ContainerSpec) -> None:
    """Look at every mount, and for bind sources on the disk.

    Raises:
        InvalidArgumentError: the first thing that is wrong; in Docker's words.
    """
    taken: set[str] = set()
    for mount in spec.mounts:
        _check_mount(mount)
        target = normal(mount.target)
        if target in taken:
            raise InvalidArgumentError(f"Duplicate mount point: {mount.target}")
        taken.add(target)
    for target in spec.anonymous_volumes:
        _check_target(target, "volume")


def _check_mount(mount: Mount) -> None:
    kind = mount.type.value
    _check_target(mount.target, kind)
    if mount.propagation not in _PROPAGATIONS:
        raise InvalidArgumentError(
            f'invalid mount config for type "{kind}": invalid propagation mode: {mount.propagation}'
        )
    if mount.type is MountType.VOLUME and mount.source:
        try:
            check_name(mount.source)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"create {mount.source}: {error}") from error
    if mount.type is MountType.TMPFS and mount.source:
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": field Source must not be specified')
    if mount.type is MountType.BIND:
        _check_source(mount)


def _check_target(target: str, kind: str) -> None:
    trouble = ""
    if not target:
        trouble = "field Target must not be empty"
    elif "\0" in target:
        trouble = "the mount path has a NUL byte in it"
    elif not target.startswith("/"):
        trouble = f"invalid mount path: '{target}' mount path must be absolute"
    elif normal(target) == "/":
        trouble = "invalid specification: destination can't be '/'"
    if trouble:
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": {trouble}')


def _check_source(mount: Mount) -> None:
    trouble = ""
    if not mount.source:
        trouble = "field Source must not be empty"
    elif "\0" in mount.source:
        trouble = "the source path has a NUL byte in it"
    elif not mount.source.startswith("/"):
        trouble = f"invalid mount path: '{mount.source}' mount path must be absolute"
    elif not mount.create_source and not Path(mount.source).exists():
        trouble = f"bind source path does not exist: {mount.source}"
    if trouble:
        raise InvalidArgumentError(f'invalid mount config for type "bind": {trouble}')


def point_of(mount: Mount, source: str, volume: str = "", driver: str = "") -> MountPoint:
    """Return the record of ``mount``, whose content comes from ``source`` on the host."""
    propagation = (mount.propagation or "rprivate") if mount.type is MountType.BIND else ""
    return MountPoint(
        mount.type, source, normal(mount.target), volume, driver, mount.mode, not mount.read_only, propagation
    )
