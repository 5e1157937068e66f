"""Which volumes a list shows and a prune takes, and what of a container's mounts lies on the host."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from sampan.docker.filters import check_known, found_test, label_test, truth
from sampan.docker.options.mounts import normal
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container import MountPoint
from sampan.resource.container_spec import Mount, MountType
from sampan.resource.listing import Filters
from sampan.resource.volume import LOCAL, Volume

_LISTED: Final = frozenset({"name", "driver", "dangling", "label", "label!"})
_SHARED: Final = "z"
_PRUNED: Final = frozenset({"all", "label", "label!"})


def select(volumes: Iterable[Volume], filters: Filters) -> list[Volume]:
    """Return those that pass every filter; of one filter's values any, but of labels all.

    Raises:
        InvalidArgumentError: an unknown filter, or a value that cannot be.
    """
    check_known(filters, _LISTED)
    named, labelled = found_test(filters, "name"), label_test(filters)
    drivers, dangling = filters.get("driver", ()), truth(filters, "dangling")
    return [
        volume
        for volume in volumes
        if named(volume.name)
        and (not drivers or volume.driver in drivers)
        and (dangling is None or dangling is not bool(volume.used_by))
        and labelled(volume.labels)
    ]


def split_prune_filters(filters: Filters) -> tuple[bool, Filters]:
    """Return whether named volumes are meant, too, and the other filters of a prune.

    Raises:
        InvalidArgumentError: as ``select``.
    """
    check_known(filters, _PRUNED)
    return bool(truth(filters, "all")), {key: values for key, values in filters.items() if key != "all"}


def make_source(source: str) -> None:
    """Make a bind source that is missing, and what is missing above it. Raises StartError."""
    try:
        for above in (*reversed(Path(source).parents), Path(source)):
            if not above.exists():
                above.mkdir(mode=0o755)
                above.chmod(0o755)  # it is the user's, and not the engine's, whose umask closes what it makes
    except FileExistsError:
        return  # a file, a socket or a device is bound as well
    except OSError as error:
        raise StartError(f"error while creating mount source path '{source}': {error.strerror}") from error


def check_sources(mounts: Iterable[Mount]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a bind source that is missing and is not to be made."""
    for mount in mounts:
        if mount.type is MountType.BIND and not mount.create_source and not Path(mount.source).exists():
            raise InvalidArgumentError(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )


def shared(mount: Mount, driver: str) -> Mount:
    """Return how a volume was asked for, with the mode that Docker shows for one of its own without any."""
    return replace(mount, mode=_SHARED) if driver == LOCAL and not (mount.mode or mount.inherited) else mount


def point_of(mount: Mount, source: str, volume: str = "", driver: str = "") -> MountPoint:
    """Return the record of ``mount``, whose content comes from ``source`` on the host."""
    propagation = (mount.propagation or "rprivate") if mount.type in (MountType.BIND, MountType.IMAGE) else ""
    return MountPoint(
        mount.type, source, normal(mount.target), volume, driver, mount.mode, not mount.read_only, propagation
    )
