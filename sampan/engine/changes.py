"""What a container has changed in its file system, without what the engine itself put there."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sampan.api.snapshot.v1 import layers_pb2
from sampan.resource.container import Change, ChangeKind
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole

if TYPE_CHECKING:
    from sampan.engine.services import Services

# Places that the engine makes for what it mounts into every container; they are no change of the user's.
MOUNT_POINTS: Final = (
    "/.dockerenv",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",  # noqa: S108 - a name to compare with
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
)
_KINDS: Final = {
    layers_pb2.ChangesResponse.MODIFIED: ChangeKind.MODIFIED,
    layers_pb2.ChangesResponse.ADDED: ChangeKind.ADDED,
    layers_pb2.ChangesResponse.DELETED: ChangeKind.DELETED,
}
_PARENTS: Final = frozenset({"/dev", "/etc"})  # of these: changed by them alone


async def container_changes(engine: "Services", container: str) -> list[Change]:
    """Return what ``container``, an ID or a name, has changed, by path.

    Raises:
        NotFoundError: no such container.
    """
    found = await engine.runtime.containers.get(container)
    with rpc_errors():
        answer = await whole(engine.layers.Changes(layers_pb2.ChangesRequest(key=found.id)))
    return of_the_user(Change(one.path, _KINDS[one.kind]) for one in answer.changes)


def of_the_user(found: Iterable[Change]) -> list[Change]:
    """Leave out the places that the engine makes for what it mounts; Docker has them in a layer of their own."""
    left = [one for one in found if one.path not in MOUNT_POINTS]
    paths = [one.path for one in left]
    return [one for one in left if one.path not in _PARENTS or any(path.startswith(f"{one.path}/") for path in paths)]
