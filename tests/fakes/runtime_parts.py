"""What containers are put together from on a fake machine: snapshots, mounts, networks, volumes, bundles.

Each satisfies a protocol of ``runtimed`` and passes the suite of ``tests/contract/runtime_parts.py``.
"""

import errno
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from runtimed.lifecycle.idmapped import Owners
from runtimed.protocol import NO_JOINS, ExecProcess, Joins, SnapshotMount
from sampan.docker.options.mounts import check_mounts
from sampan.errors import ConflictError, NotFoundError
from sampan.resource.container import Container, EndpointState, MountPoint, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint, MountType, Resources
from sampan.sys.measuring import Usage
from tests.fakes.crashes import Steps
from tests.fakes.runtime_host import Host


class FakeSnapshots:
    """Satisfies ``protocol.Snapshots``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def _step(self, name: str) -> None:
        await self._host.passed(name)
        self._steps.step(name)

    async def prepare(self, key: str, parent: str, *, transient: bool = False) -> tuple[SnapshotMount, ...]:
        await self._step("prepare snapshot")
        if parent not in self._host.images:
            raise NotFoundError(f"snapshot {parent} not found")
        self._host.snapshots.add(key)
        return self._mounts(key)

    async def view(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        return await self.prepare(key, parent)

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        if key not in self._host.snapshots:
            raise NotFoundError(f"snapshot {key} not found")
        return self._mounts(key)

    def _mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        return (SnapshotMount("overlay", key, ()),)

    async def remove(self, key: str) -> None:
        await self._step("remove snapshot")
        self._host.snapshots.discard(key)

    async def usage(self, key: str) -> Usage:
        if key not in self._host.snapshots:
            raise NotFoundError(f"snapshot {key} not found")
        return Usage(4096, 1)

    async def keys(self) -> Collection[str]:
        return tuple(self._host.snapshots)


class FakeMounter:
    """Satisfies ``runner.Mounter``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        self._steps.step("mount")
        if not target.is_dir():
            raise FileNotFoundError(2, "No such file or directory", str(target))
        self._host.mounts[target] = mount

    def mount_passing(self, mount: SnapshotMount, target: Path) -> None:
        self.mount(SnapshotMount(mount.fstype, mount.source, (*mount.options, "volatile")), target)

    def attach(self, base: Path, subpath: str, target: Path) -> None:
        self._steps.step("attach")
        if not (base / subpath).exists():
            raise FileNotFoundError(2, "No such file or directory", subpath)
        target.mkdir(exist_ok=True)
        self._host.mounts[target] = SnapshotMount("", str(base / subpath), ())

    def check_part(self, base: Path, subpath: str) -> None:
        self._steps.step("check part")
        found = (base / subpath).resolve()
        if not found.is_relative_to(base.resolve()):
            raise OSError(errno.EXDEV, "Invalid cross-device link", subpath)
        if not found.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", subpath)

    def mount_mapped(self, mount: SnapshotMount, target: Path, owners: Owners) -> None:
        self.mount(mount, target)

    def attach_mapped(self, source: Path, target: Path, owners: Owners) -> None:
        self.attach(source, "", target)

    def hold_users(self, owners: Owners, target: Path) -> None:
        self._steps.step("hold users")
        target.touch()
        self._host.mounts[target] = SnapshotMount("", "users", ())

    def show(self, source: Path, target: Path, owners: Owners) -> None:
        self._steps.step("show")
        target.mkdir(parents=True, exist_ok=True)
        self._host.mounts[target] = SnapshotMount("", str(source), ())

    def unmount(self, target: Path) -> None:
        self._steps.step("unmount")
        self._host.mounts.pop(target, None)


class FakeNetworking:
    """Satisfies ``protocol.Networking``: one network, one address for each container."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def check(self, spec: ContainerSpec) -> tuple[NetworkSettings, tuple[str, ...]]:
        return NetworkSettings(), ()

    async def attach(self, container: Container) -> NetworkSettings:
        self._steps.step("attach network")
        if error := self._host.fails.get("attach network"):
            raise error
        taken = set(self._host.addresses.values())
        address = next(f"192.0.2.{last}" for last in range(2, 255) if f"192.0.2.{last}" not in taken)
        self._host.addresses.setdefault(container.id, address)
        return self._settings(container.id)

    def _settings(self, id: str) -> NetworkSettings:
        endpoint = EndpointState("bridge", "n" * 64, Endpoint("bridge"), id, ipv4_address=self._host.addresses[id])
        return NetworkSettings(id, f"/run/netns/{id}", (endpoint,))

    async def detach(self, container_id: str) -> None:
        self._steps.step("detach network")
        self._host.addresses.pop(container_id, None)

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        if container.id not in self._host.addresses:
            raise ConflictError(f"container {container.id} is not connected")
        address = self._host.addresses[container.id]
        return {"hosts": f"{address} {container.name}\n".encode(), "hostname": b"h\n", "resolv.conf": b""}

    def linked(self, container_id: str) -> Mapping[str, Sequence[tuple[str, str]]]:
        return {}

    async def renamed(self, container: Container) -> NetworkSettings | None:
        self._steps.step("rename in network")
        return self._settings(container.id) if container.id in self._host.addresses else None

    async def recover(self, running: Collection[Container]) -> Mapping[str, NetworkSettings]:
        keep = {container.id for container in running}
        self._host.addresses = {key: one for key, one in self._host.addresses.items() if key in keep}
        connected = {each.id: self._settings(each.id) for each in running if each.id in self._host.addresses}
        return {
            each.id: connected[each.id]
            for each in running
            if each.id in connected
            and not all(state in connected[each.id].endpoints for state in each.network.endpoints)
        }


class FakeMountedVolumes:
    """Satisfies ``protocol.Volumes``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def resolve(self, container_id: str, spec: ContainerSpec) -> tuple[MountPoint, ...]:
        wanted = [(mount.target, mount.source) for mount in spec.mounts if mount.type is MountType.VOLUME]
        wanted += [(target, "") for target in spec.anonymous_volumes]
        check_mounts(spec.mounts, spec.anonymous_volumes)
        points = []
        for target, named in wanted:
            self._steps.step("hold volume")
            name = named or f"anonymous-{container_id[:12]}-{target.strip('/')}"
            self._host.volumes.setdefault(name, not named)
            held = self._host.holds.setdefault(container_id, [])
            if name not in held:
                held.append(name)
            points.append(MountPoint(MountType.VOLUME, f"/volumes/{name}", target, name, "local"))
        return tuple(points)

    async def fill(self, container: Container, root: Path) -> Mapping[str, str]:
        if container.mounts:
            self._steps.step("fill volumes")
        return {}

    def tell_mounted(self, container: Container) -> None:
        """Nobody is told."""

    def adopt(self, container: Container) -> None:
        """Nothing is mounted."""

    async def leave(self, container: Container) -> None:
        """Nothing is mounted."""

    async def release(self, container_id: str, *, anonymous: bool) -> None:
        self._steps.step("release volumes")
        names = self._host.holds.pop(container_id, [])
        for name in names:
            held = any(name in others for others in self._host.holds.values())
            if anonymous and self._host.volumes.get(name) and not held:
                del self._host.volumes[name]


class FakeBundles:
    """Satisfies ``protocol.Bundles``."""

    def cgroup_namespace(self, spec: ContainerSpec) -> str:
        return spec.namespaces.cgroup or "private"

    def cgroup_path(self, container_id: str, spec: ContainerSpec) -> str:
        return f"/fake/{container_id}"

    def check(self, spec: ContainerSpec) -> tuple[str, ...]:
        return ()

    def enforced(self, resources: Resources) -> Resources:
        return resources

    def config(
        self, container: Container, root: Path, *, files: Path, init_path: str | None, joins: Joins = NO_JOINS
    ) -> dict[str, object]:
        return {
            "ociVersion": "1.1.0",
            "process": {"args": list(container.spec.process.args), "user": {"uid": 0, "gid": 0}},
        }

    def exec_process(self, container: Container, root: Path, request: ExecProcess) -> dict[str, object]:
        return {"args": list(request.process.args)}
