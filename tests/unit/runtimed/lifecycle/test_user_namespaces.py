"""What of a container with a user namespace is decided before the kernel is asked."""

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from runtimed.containers.paths import Paths
from runtimed.lifecycle.idmapped import Owners, outside
from runtimed.lifecycle.joins import check_passage, users_of, within
from runtimed.lifecycle.mounter import MappedMounter
from runtimed.lifecycle.staging import mapped_owners, needs_staging, staged
from runtimed.oci.namespaces import oci_sysctls
from runtimed.protocol import NO_JOINS, Joins
from sampan.errors import StartError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, IdMapping, Mount, MountType, Namespaces

FIRST, SECOND = IdMapping(0, 100_000, 1000), IdMapping(1000, 300_000, 1000)
MAPPED = Namespaces(network="none", uid_mappings=(FIRST, SECOND), gid_mappings=(FIRST,))
OWNERS = Owners((FIRST, SECOND), (FIRST,))


def make(spec: ContainerSpec, *points: MountPoint) -> Container:
    return Container("c" * 64, spec, datetime.now(UTC), mounts=points)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "data", tmp_path / "run" / "runtimed")


class Mounter:
    """Holds user namespaces, or fails to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.held: list[tuple[Owners, Path]] = []

    def hold_users(self, owners: Owners, target: Path) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.held.append((owners, target))


@pytest.mark.parametrize(("inside", "expected"), [(0, 100_000), (999, 100_999), (1000, 300_000), (2000, 0)])
def test_an_id_in_there_is_another_one_outside(inside: int, expected: int) -> None:
    assert outside(OWNERS.uids, inside) == expected


def test_root_of_a_container_is_who_its_first_ids_are() -> None:
    assert Owners.of(MAPPED) == OWNERS
    assert OWNERS.root == (100_000, 100_000)
    assert Owners.of(Namespaces()) is None


def test_a_container_gets_a_namespace_or_joins_the_one_of_what_it_shares(paths: Paths) -> None:
    container, mounter = make(ContainerSpec(namespaces=MAPPED)), Mounter()
    places = paths.container(container.id)

    def users(of: Container, joins: Joins = NO_JOINS) -> str:
        return users_of(of, lambda _: joins, cast("MappedMounter", mounter), places)

    assert users(make(ContainerSpec())) == ""
    assert users(container, Joins(users="/proc/7/ns/user")) == "/proc/7/ns/user"
    assert mounter.held == []
    assert users(container) == str(places.users)
    assert mounter.held == [(OWNERS, places.users)]
    assert within(container, "/x").spec.namespaces.user == "ns:/x"
    assert within(container, "") is container
    assert users(within(container, "/x")) == ""  # whoever named it has made it


def test_a_namespace_that_cannot_be_made_refuses_the_start(paths: Paths) -> None:
    container = make(ContainerSpec(namespaces=MAPPED))
    mounter = cast("MappedMounter", Mounter(fails=True))
    with pytest.raises(StartError, match="cannot make a user namespace: No space left on device"):
        users_of(container, lambda _: NO_JOINS, mounter, paths.container(container.id))


def test_volumes_are_mapped_and_binds_as_they_ask(paths: Paths) -> None:
    volume = MountPoint(MountType.VOLUME, "/v", "/data", name="v")
    plain, asks = MountPoint(MountType.BIND, "/b", "/plain"), MountPoint(MountType.BIND, "/b", "/asks")
    mounts = (
        Mount(MountType.VOLUME, "/data", "v"),
        Mount(MountType.BIND, "/plain", "/b"),
        Mount(MountType.BIND, "/asks", "/b", uid_mappings=(FIRST,), gid_mappings=(FIRST,)),
    )
    docker_s = make(ContainerSpec(namespaces=MAPPED, mounts=mounts), volume, plain, asks)
    assert mapped_owners(docker_s) == {0: OWNERS, 2: Owners((FIRST,), (FIRST,))}
    places = paths.container(docker_s.id)
    sources = [point.source for point in staged(docker_s, places)]
    assert sources == [str(places.parts / "0.mapped"), "/b", str(places.parts / "2.mapped")]
    pod_s = make(ContainerSpec(namespaces=MAPPED, mounts=mounts, owner="cri"), volume, plain, asks)
    assert mapped_owners(pod_s).keys() == {2}
    assert not needs_staging(make(ContainerSpec(mounts=mounts[:2]), volume, plain))


def test_the_groups_that_may_ping_are_those_that_there_are() -> None:
    two = Namespaces(uid_mappings=(FIRST,), gid_mappings=(SECOND, FIRST, IdMapping(5000, 400_000, 1)))
    assert oci_sysctls(ContainerSpec(namespaces=two))["net.ipv4.ping_group_range"] == "0 1999"
    assert oci_sysctls(ContainerSpec())["net.ipv4.ping_group_range"] == "0 2147483647"


def test_a_directory_that_lets_nobody_pass_is_named(tmp_path: Path) -> None:
    check_passage(Path("/"))
    closed = tmp_path / "closed"
    (closed / "run").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(
        StartError, match=r"root of a user namespace is another user of the host, and /.* lets none pass"
    ):
        check_passage(closed / "run")
