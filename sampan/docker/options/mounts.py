"""Mounts as values, whichever form they were asked for in: what can be wrong with them."""

import posixpath
import re
from collections.abc import Iterable
from typing import Final

from sampan.docker.options.tmpfs import tmpfs_options
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType

PROPAGATIONS: Final = frozenset({"shared", "slave", "private", "rshared", "rslave", "rprivate"})
# What may be said of a bind besides: it shows less then.
BIND_OPTIONS: Final = frozenset({"noexec", "nodev", "nosuid"})
VOLUME_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MAX_VOLUME_NAME: Final = 255 - len(".gone-")  # NAME_MAX, and room for what the engine puts before it


def normal(target: str) -> str:
    """Return ``target`` without ``.``, ``..`` and doubled slashes: two targets are one if these are equal."""
    path = posixpath.normpath(target)
    return path[1:] if path.startswith("//") else path


def mount_type(name: str) -> MountType:
    """Return the type of that name, in any case. Raises InvalidArgumentError: there is none."""
    try:
        return MountType(name.lower())
    except ValueError:
        raise _refused(name.lower()[:100], "mount type unknown") from None


def check_mounts(mounts: Iterable[Mount], anonymous: Iterable[str] = ()) -> None:
    """Look at every mount, and at the targets of anonymous volumes.

    Raises:
        InvalidArgumentError: the first thing that is wrong; in Docker's words.
    """
    taken: set[str] = set()
    for mount in mounts:
        check_mount(mount)
        target = normal(mount.target)
        if target in taken:
            raise InvalidArgumentError(f"Duplicate mount point: {target}")
        taken.add(target)
    for target in anonymous:
        _check_target(target, MountType.VOLUME.value)


def check_mount(mount: Mount) -> None:
    """Raise InvalidArgumentError for a mount that cannot be meant; the names of volumes are their drivers' affair."""
    kind = mount.type.value
    _check_target(mount.target, kind)
    if mount.subpath and mount.type in (MountType.BIND, MountType.TMPFS):
        raise _refused(kind, "field VolumeOptions must not be specified")
    if mount.propagation and mount.propagation not in PROPAGATIONS:
        raise _refused(kind, f"invalid propagation mode: {mount.propagation[:100]}")
    _MORE[mount.type](mount)


def check_volume_name(name: str) -> None:
    """Raise InvalidArgumentError for a name that no local volume can have; a plugin judges those of its own."""
    trouble = ""
    if len(name) == 1:
        trouble = "volume name is too short, names should be at least two alphanumeric characters"
    elif not VOLUME_NAME.fullmatch(name):
        trouble = (
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )
    elif len(name) > _MAX_VOLUME_NAME:
        trouble = f'"{name}" is too long for a volume name, the most is {_MAX_VOLUME_NAME} characters'
    if trouble:
        raise InvalidArgumentError(f"create {name}: {trouble}")


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
        raise _refused(kind, trouble)


def _bind(mount: Mount) -> None:
    trouble = ""
    if not mount.source:
        trouble = "field Source must not be empty"
    elif _has_volume_options(mount):
        trouble = "field VolumeOptions must not be specified"
    elif "\0" in mount.source:
        trouble = "the source path has a NUL byte in it"
    elif not mount.source.startswith("/"):
        trouble = f"invalid mount path: '{mount.source}' mount path must be absolute"
    elif mount.read_only_non_recursive and not mount.read_only:
        trouble = "field ReadOnlyNonRecursive must not be specified unless the mount is read-only"
    elif mount.read_only_force_recursive and not mount.read_only:
        trouble = "field ReadOnlyForceRecursive must not be specified unless the mount is read-only"
    elif mount.read_only_force_recursive and (mount.read_only_non_recursive or mount.non_recursive):
        trouble = "field ReadOnlyForceRecursive must not be specified with ReadOnlyNonRecursive or NonRecursive"
    elif mount.read_only_force_recursive and mount.propagation not in ("", "rprivate"):
        trouble = "field ReadOnlyForceRecursive needs the propagation rprivate"
    elif unknown := [option for option in mount.options if option not in BIND_OPTIONS]:
        trouble = f"unknown option {unknown[0][:100]}"
    if trouble:
        raise _refused("bind", trouble)


def _volume(mount: Mount) -> None:
    if _has_bind_options(mount):
        raise _refused("volume", "field BindOptions must not be specified")
    if mount.subpath and not mount.source:
        raise _refused("volume", "must not set Subpath when using anonymous volumes")
    _check_subpath(mount)
    if mount.read_only and not mount.source:
        raise _refused("volume", "must not set ReadOnly mode when using anonymous volumes")


def _image(mount: Mount) -> None:
    if _has_bind_options(mount):
        raise _refused("image", "field BindOptions must not be specified")
    if _has_volume_options(mount):
        raise _refused("image", "field VolumeOptions must not be specified")
    if not mount.source:
        raise _refused("image", "field Source must not be empty")
    _check_subpath(mount)


def _check_subpath(mount: Mount) -> None:
    """Refuse what leads out of the volume, or the image, by what it says; what links in it say is for the start."""
    if mount.subpath and (mount.subpath.startswith("/") or normal(mount.subpath).split("/")[0] == ".."):
        raise _refused(mount.type.value, "subpath must be a relative path within the volume")
    if "\0" in mount.subpath:
        raise _refused(mount.type.value, "the subpath has a NUL byte in it")


def _tmpfs(mount: Mount) -> None:
    if _has_bind_options(mount):
        raise _refused("tmpfs", "field BindOptions must not be specified")
    if mount.source:
        raise _refused("tmpfs", "field Source must not be specified")
    tmpfs_options(mount)


_MORE: Final = {MountType.BIND: _bind, MountType.VOLUME: _volume, MountType.TMPFS: _tmpfs, MountType.IMAGE: _image}


def _has_bind_options(mount: Mount) -> bool:
    return bool(
        mount.propagation
        or mount.non_recursive
        or mount.create_source
        or mount.read_only_non_recursive
        or mount.read_only_force_recursive
    )


def _has_volume_options(mount: Mount) -> bool:
    return bool(mount.no_copy or mount.volume_driver or mount.volume_labels or mount.volume_options)


def _refused(kind: str, trouble: str) -> InvalidArgumentError:
    return InvalidArgumentError(f'invalid mount config for type "{kind}": {trouble}')
