"""Behaviours that the parts which runtimed's lifecycle is built on owe it: for the real ones, and for the fakes."""

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.lifecycle.idmapped import Owners
from runtimed.lifecycle.mounter import MappedMounter, Mounter
from runtimed.protocol import Bundles, ContainerRecords, ExecProcess, Networking, SnapshotMount, Snapshots, Volumes
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.resource.container import Container, EndpointState, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint, IdMapping, Mount, MountType, Process

A, B = "a" * 64, "b" * 64
BASE = "base"  # a committed snapshot


def container(id: str, name: str, **spec: object) -> Container:
    return Container(id, ContainerSpec(name=name, **spec), datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]


class SnapshotsContract:
    """Of ``protocol.Snapshots``; the fixture has ``BASE``."""

    promises: tuple[type, ...] = (Snapshots,)

    async def test_an_unknown_parent_is_not_found_and_nothing_is_made(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFoundError):
            await snapshots.prepare(A, "nope")
        assert A not in await snapshots.keys()

    async def test_one_that_is_prepared_again_is_the_same(self, snapshots: Snapshots) -> None:
        mounts = await snapshots.prepare(A, BASE)
        assert mounts
        assert await snapshots.prepare(A, BASE) == mounts
        assert await snapshots.mounts(A) == mounts
        assert set(await snapshots.keys()) == {A}

    async def test_an_unknown_one_has_no_mounts_and_no_size(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFoundError):
            await snapshots.mounts(A)
        with pytest.raises(NotFoundError):
            await snapshots.usage(A)

    async def test_a_view_is_one_of_them(self, snapshots: Snapshots) -> None:
        with pytest.raises(NotFoundError):
            await snapshots.view(A, "nope")
        mounts = await snapshots.view(A, BASE)
        assert await snapshots.view(A, BASE) == await snapshots.mounts(A) == mounts
        assert set(await snapshots.keys()) == {A}
        await snapshots.remove(A)
        assert not await snapshots.keys()

    async def test_removing_may_be_repeated(self, snapshots: Snapshots) -> None:
        await snapshots.prepare(A, BASE)
        await snapshots.prepare(B, BASE)
        for _ in range(2):
            await snapshots.remove(A)
        assert set(await snapshots.keys()) == {B}
        assert (await snapshots.usage(B)).size_bytes >= 0


class NetworkingContract:
    """Of ``protocol.Networking``."""

    promises: tuple[type, ...] = (Networking,)

    async def test_files_are_those_of_a_container_that_is_connected(self, networking: Networking) -> None:
        web = container(A, "web")
        settings = await networking.attach(web)
        files = await networking.files(web, settings)
        assert set(files) == {"hosts", "hostname", "resolv.conf"}
        assert settings.sandbox_path
        await networking.detach(A)
        with pytest.raises(ConflictError):
            await networking.files(web, settings)

    async def test_attaching_and_detaching_may_be_repeated(self, networking: Networking) -> None:
        web = container(A, "web")
        for _ in range(2):
            await networking.attach(web)
        renamed = await networking.renamed(container(A, "site"))
        assert renamed is not None
        assert renamed.sandbox_path
        for _ in range(2):
            await networking.detach(A)
        assert await networking.renamed(container(A, "gone")) is None

    async def test_containers_have_addresses_of_their_own(self, networking: Networking) -> None:
        one, other = container(A, "one"), container(B, "other")
        addresses = {
            endpoint.ipv4_address
            for each in (one, other)
            for endpoint in (await networking.attach(each)).endpoints
        }  # fmt: skip
        assert len(addresses) == 2
        for each in (one, other):
            await networking.detach(each.id)

    async def test_recovery_keeps_what_is_of_those_that_run_and_nothing_else(self, networking: Networking) -> None:
        kept, lost = container(A, "kept"), container(B, "lost")
        settings = {each.id: await networking.attach(each) for each in (kept, lost)}
        left = await networking.recover([Container(A, kept.spec, kept.created, network=settings[A])])
        assert left == {}
        assert await networking.files(kept, settings[A])
        with pytest.raises(ConflictError):
            await networking.files(lost, settings[B])
        await networking.detach(A)

    async def test_recovery_tells_who_has_left_a_network_that_is_still_recorded(self, networking: Networking) -> None:
        web = container(A, "web")
        settings = await networking.attach(web)
        gone = EndpointState("side", "5" * 64, Endpoint("side"), "e" * 64)
        recorded = replace(settings, endpoints=(*settings.endpoints, gone))
        left = await networking.recover([Container(A, web.spec, web.created, network=recorded)])
        assert left == {A: settings}
        await networking.detach(A)


@dataclass(frozen=True, slots=True)
class VolumeParts:
    """What the contract of volumes needs."""

    volumes: Volumes
    exists: Callable[[str], Awaitable[bool]]


class VolumesContract:
    """Of ``protocol.Volumes``."""

    promises: tuple[type, ...] = (Volumes,)

    @staticmethod
    def spec(*named: str, anonymous: tuple[str, ...] = ()) -> ContainerSpec:
        mounts = tuple(Mount(MountType.VOLUME, f"/{name}", name) for name in named)
        return ContainerSpec(mounts=mounts, anonymous_volumes=anonymous)

    async def test_the_same_is_held_when_it_is_asked_for_again(self, parts: VolumeParts) -> None:
        spec = self.spec("named", anonymous=("/data",))
        points = await parts.volumes.resolve(A, spec)
        assert [point.target for point in points] == ["/named", "/data"]
        assert points[0].name == "named"
        assert await parts.volumes.resolve(A, spec) == points
        assert all([await parts.exists(point.name) for point in points])

    @pytest.mark.parametrize("anonymous", [True, False])
    async def test_anonymous_ones_go_with_their_container_if_asked(self, parts: VolumeParts, anonymous: bool) -> None:
        named, nameless = await parts.volumes.resolve(A, self.spec("named", anonymous=("/data",)))
        for _ in range(2):
            await parts.volumes.release(A, anonymous=anonymous)
        assert await parts.exists(named.name)
        assert await parts.exists(nameless.name) is not anonymous

    async def test_one_that_another_container_holds_stays(self, parts: VolumeParts) -> None:
        (nameless,) = await parts.volumes.resolve(A, self.spec(anonymous=("/data",)))
        await parts.volumes.resolve(B, ContainerSpec(mounts=(Mount(MountType.VOLUME, "/other", nameless.name),)))
        await parts.volumes.release(A, anonymous=True)
        assert await parts.exists(nameless.name)
        await parts.volumes.release(B, anonymous=True)
        assert not await parts.exists(nameless.name)

    @pytest.mark.parametrize("targets", [("data",), ("/data", "/data")])
    async def test_targets_that_cannot_be_are_refused(self, parts: VolumeParts, targets: tuple[str, ...]) -> None:
        mounts = tuple(Mount(MountType.VOLUME, target, f"v{number}") for number, target in enumerate(targets))
        with pytest.raises(InvalidArgumentError):
            await parts.volumes.resolve(A, ContainerSpec(mounts=mounts))
        assert not await parts.exists("v0")


@dataclass(frozen=True, slots=True)
class MountParts:
    """What the contract of mounting needs."""

    mounter: MappedMounter
    is_mounted: Callable[[Path], bool]


class MounterContract:
    """Of ``runner.Mounter``."""

    promises: tuple[type, ...] = (Mounter, MappedMounter)

    MOUNT = SnapshotMount("tmpfs", "shm", ("mode=0755", "size=65536"))

    def test_all_that_is_mounted_at_a_place_goes_at_once(self, parts: MountParts, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.mkdir()
        for _ in range(2):
            parts.mounter.mount(self.MOUNT, target)
        assert parts.is_mounted(target)
        for _ in range(2):
            parts.mounter.unmount(target)
        assert not parts.is_mounted(target)

    def test_what_nobody_needs_after_a_power_cut_is_mounted_and_goes(self, parts: MountParts, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.mkdir()
        parts.mounter.mount_passing(self.MOUNT, target)
        assert parts.is_mounted(target)
        parts.mounter.unmount(target)
        assert not parts.is_mounted(target)

    def test_a_part_is_mounted_where_it_is_made(self, parts: MountParts, tmp_path: Path) -> None:
        (tmp_path / "base" / "in" / "it").mkdir(parents=True)
        parts.mounter.attach(tmp_path / "base", "in/it", tmp_path / "target")
        assert parts.is_mounted(tmp_path / "target")
        parts.mounter.unmount(tmp_path / "target")
        with pytest.raises(FileNotFoundError):
            parts.mounter.attach(tmp_path / "base", "in/nothing", tmp_path / "target")
        assert not parts.is_mounted(tmp_path / "target")

    def test_a_part_is_found_unless_a_link_leads_out(self, parts: MountParts, tmp_path: Path) -> None:
        base = tmp_path / "base"
        (base / "in" / "it").mkdir(parents=True)
        (base / "within").symlink_to("in/it")
        (base / "out").symlink_to("../elsewhere")
        (base / "absolute").symlink_to("/etc")
        for path in ("in/it", "within", "in/../within", "./in"):
            parts.mounter.check_part(base, path)
        for path, refused in (("out", errno.EXDEV), ("absolute", errno.EXDEV), ("in/nothing", errno.ENOENT)):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what tells them apart
                parts.mounter.check_part(base, path)
            assert caught.value.errno == refused
        assert not parts.is_mounted(base)

    def test_what_a_user_namespace_takes_is_mounted_and_goes(self, parts: MountParts, tmp_path: Path) -> None:
        mapping = (IdMapping(0, 100_000, 65_536),)
        owners = Owners(mapping, mapping)
        (tmp_path / "source").mkdir()
        (tmp_path / "mapped").mkdir()
        parts.mounter.mount_mapped(self.MOUNT, tmp_path / "mapped", owners)
        parts.mounter.attach_mapped(tmp_path / "source", tmp_path / "attached", owners)
        parts.mounter.hold_users(owners, tmp_path / "users")
        parts.mounter.show(tmp_path / "source", tmp_path / "roots" / "one" / "rootfs", owners)
        for made in ("mapped", "attached", "users", "roots/one/rootfs"):
            assert parts.is_mounted(tmp_path / made)
            parts.mounter.unmount(tmp_path / made)
            assert not parts.is_mounted(tmp_path / made)

    def test_a_place_that_is_not_there_is_an_error_for_mounting_alone(self, parts: MountParts, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            parts.mounter.mount(self.MOUNT, tmp_path / "nowhere")
        with pytest.raises(OSError, match="No such file"):
            parts.mounter.mount_passing(self.MOUNT, tmp_path / "nowhere")
        parts.mounter.unmount(tmp_path / "nowhere")


class BundlesContract:
    """Of ``protocol.Bundles``; the fixture ``root`` is a file system that has ``/bin/sh``."""

    promises: tuple[type, ...] = (Bundles,)

    def test_each_container_has_a_cgroup_of_its_own(self, bundles: Bundles) -> None:
        paths = {bundles.cgroup_path(key, ContainerSpec()) for key in (A, B)}
        assert len(paths) == 2
        assert all(path.startswith("/") for path in paths)

    def test_config_says_what_the_spec_does(self, bundles: Bundles, root: Path, tmp_path: Path) -> None:
        web = container(A, "web", process=Process(cmd=("/bin/sh", "-c", "true")))
        assert bundles.check(web.spec) == ()
        assert bundles.enforced(web.spec.resources) == web.spec.resources
        config = bundles.config(web, root, files=tmp_path, init_path=None)
        assert config["ociVersion"]
        process = config["process"]
        assert isinstance(process, dict)
        assert process["args"] == ["/bin/sh", "-c", "true"]

    def test_process_of_an_exec_is_its_own(self, bundles: Bundles, root: Path) -> None:
        web = container(A, "web", process=Process(cmd=("/bin/sh",)))
        process = bundles.exec_process(web, root, ExecProcess(Process(cmd=("/bin/sh", "-l"))))
        assert process["args"] == ["/bin/sh", "-l"]


@dataclass(frozen=True, slots=True)
class RecordParts:
    """What the contract of records needs: with containers ``A``, named "web", and ``B``, named "db"."""

    records: ContainerRecords


class ContainerRecordsContract:
    """Of ``protocol.ContainerRecords``."""

    promises: tuple[type, ...] = (ContainerRecords,)

    @pytest.mark.parametrize("reference", [A, "a" * 12, "web"])
    async def test_found_by_id_prefix_and_name(self, parts: RecordParts, reference: str) -> None:
        assert (await parts.records.find(reference)).id == A

    async def test_an_unknown_one_is_not_found(self, parts: RecordParts) -> None:
        with pytest.raises(NotFoundError, match="No such container: nope"):
            await parts.records.find("nope")

    async def test_networks_are_recorded_of_one_container(self, parts: RecordParts) -> None:
        settings = NetworkSettings(sandbox_id="s")
        await parts.records.set_network(A, (Endpoint("front"),), settings)
        found = {each.id: each for each in await parts.records.all()}
        assert (found[A].spec.endpoints, found[A].network) == ((Endpoint("front"),), settings)
        assert (found[B].spec.endpoints, found[B].network) == ((), NetworkSettings())
