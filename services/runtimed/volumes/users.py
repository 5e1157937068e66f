"""Who has which volume mounted: the containers that run, and what is told of them.

A volume with options is mounted by the first container that starts with it, and unmounted with the last one that ends:
what its options mount, a tmpfs or a share of another machine, is there as long as somebody uses it, as with dockerd.
Nothing of this is written down. After a restart the containers that run are ``adopt``-ed before any other is settled.
"""

from runtimed.protocol import Publish
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import MountType
from sampan.resource.volume import LOCAL


def volumes_of(container: Container) -> list[MountPoint]:
    """Return those of the container's mounts that are volumes."""
    return [point for point in container.mounts if point.type is MountType.VOLUME]


class Users:
    """The running containers of each volume. Whoever calls holds the volume's lock where that matters."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        # By volume and container: whether its mount was told, and its unmount is to be.
        self._users: dict[str, dict[str, bool]] = {}

    def enter(self, volume: str, container_id: str) -> None:
        """A container is about to use it; nothing is told yet, since that may be to fill it alone."""
        self._users.setdefault(volume, {}).setdefault(container_id, False)

    def tell(self, container: Container) -> None:
        """Tell that the container's volumes are mounted, with dockerd's attributes."""
        for point in volumes_of(container):
            self._users.setdefault(point.name, {})[container.id] = True
            told = {"driver": point.driver or LOCAL, "container": container.id, "destination": point.target}
            told |= {"read/write": "true" if point.read_write else "false", "propagation": point.propagation}
            self._publish("volume", "mount", point.name, told)

    def adopt(self, container: Container) -> None:
        """Know of a container that was started by an earlier process of ours, which has told of it."""
        for point in volumes_of(container):
            self._users.setdefault(point.name, {})[container.id] = True

    def leave(self, container: Container, point: MountPoint) -> bool:
        """Tell that one of its volumes is unmounted, if the mount was told; return whether nobody has it any more."""
        users = self._users.get(point.name, {})
        if users.get(container.id, False):
            attributes = {"driver": point.driver or LOCAL, "container": container.id}
            self._publish("volume", "unmount", point.name, attributes)
        return self.drop(point.name, container.id)

    def drop(self, volume: str, user: str) -> bool:
        """Forget one user, of whom nothing is told; return whether nobody has the volume any more."""
        users = self._users.get(volume, {})
        users.pop(user, None)
        if not users:
            self._users.pop(volume, None)
        return not users
