"""Containers with user namespaces, on the real kernel and with both OCI runtimes."""

import asyncio
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from sampan.api.runtime.v1 import spec_pb2
from sampan.client.runtime.archives import ArchivesClient
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import IdMapping, Mount, MountType, Namespaces, Process
from sampan.sys.idmaps import create_network, hold, make_users
from sampan.sys.mounts import MNT_DETACH, umount2
from tests.integration.runtimed.pods_setup import Pods, write_users
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running
from tests.support.tools import eventually, need

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]

MAPPING = (IdMapping(0, 200_000, 65_536),)
MAPPED = Namespaces(network="none", uid_mappings=MAPPING, gid_mappings=MAPPING)


@contextmanager
def reachable() -> Iterator[Path]:
    """A directory that others pass through: those of pytest are closed to them."""
    with tempfile.TemporaryDirectory(prefix="u") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[tuple[Runtimed, Path]]:
    with reachable() as directory:
        async with running(directory) as (process, snapshotter):
            write_users(directory)
            yield process, directory
        assert mounts_below(directory) == []
        assert snapshotter.active == {}
        assert list((directory / "run/roots").iterdir()) == []


@pytest_asyncio.fixture(loop_scope="module", params=["crun", "runc"])
async def pods(place: tuple[Runtimed, Path], tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    need(request.param)
    pods = Pods(place[0], request.param, tmp_path)
    yield pods
    await pods.clear()


async def test_root_in_there_is_somebody_else_outside_and_its_files_are_roots(
    pods: Pods, place: tuple[Runtimed, Path]
) -> None:
    script = (
        "id -u; cat /proc/self/uid_map; stat -c %u:%g / /bin /etc/passwd; echo new > /made; stat -c %u /made; sleep 999"
    )
    made = await pods.begin("sh", "-c", script, namespaces=MAPPED)
    told = await pods.until(6)
    assert told[0] == "0"
    assert told[1].split() == ["0", "200000", "65536"]
    assert told[2:] == ["0:0", "0:0", "0:0", "0"]
    assert Path(f"/proc/{made.state.pid}").stat().st_uid == 200_000
    on_disk = place[1] / "snapshots" / made.id / "upper"
    assert (on_disk / "made").stat().st_uid == 0  # as any container's, for commits and copies
    assert on_disk.stat().st_uid == 0


async def test_another_user_and_its_groups_are_the_image_s(pods: Pods) -> None:
    assert (await pods.output("id", user="me", namespaces=MAPPED)).startswith("uid=1000(me) gid=1000(me)")


async def test_a_network_namespace_of_its_own_belongs_to_it(pods: Pods) -> None:
    script = "mkdir /tmp/s && mount -t sysfs sysfs /tmp/s && ls /tmp/s/class/net"
    told = await pods.output(
        "sh", "-c", f"cat /proc/net/dev | wc -l; ls /sys/class/net; {script} 2>&1", namespaces=MAPPED
    )
    assert "lo" in told.split()


async def test_output_can_be_opened_by_its_name(pods: Pods) -> None:
    assert await pods.output("sh", "-c", "echo out > /dev/stdout", namespaces=MAPPED) == "out\n"


async def test_an_exec_is_in_there_too(pods: Pods, place: tuple[Runtimed, Path]) -> None:
    made = await pods.begin("sleep", "1000", namespaces=MAPPED)
    code, output = await place[0].exec(made.id, "sh", "-c", "cat /proc/self/uid_map; touch /by-exec")
    assert (code, output.stdout.split()) == (0, [b"0", b"200000", b"65536"])
    assert (place[1] / "snapshots" / made.id / "upper" / "by-exec").stat().st_uid == 0


async def test_namespaces_of_a_pod_s_users_are_joined(pods: Pods, tmp_path: Path) -> None:
    users, network = tmp_path / "users", tmp_path / "net"
    made = make_users([(0, 200_000, 65_536)], [(0, 200_000, 65_536)])
    try:
        hold(made, users)
    finally:
        os.close(made)
    create_network(network, users)
    try:
        modes = replace(MAPPED, network=f"ns:{network}", user=f"ns:{users}")
        told = await pods.output(
            "sh", "-c", "ls -l /proc/self/ns/user /proc/self/ns/net; ls /sys/class/net", namespaces=modes
        )
        assert f"user:[{users.stat().st_ino}]" in told
        assert f"net:[{network.stat().st_ino}]" in told
        await pods.clear()
        pods.made.clear()
    finally:
        for file in (network, users):
            umount2(str(file), MNT_DETACH)


async def test_a_volume_of_the_host_s_is_shown_as_it_is_or_with_its_owners_mapped(pods: Pods, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o755)
    (volume / "file").write_text("text")
    plain = Mount(MountType.BIND, "/plain", str(volume))
    mapped = Mount(MountType.BIND, "/mapped", str(volume), uid_mappings=MAPPING, gid_mappings=MAPPING)
    one_file = replace(mapped, target="/file", source=str(volume / "file"))
    told = await pods.output(
        "sh", "-c", "stat -c %u /plain/file /mapped/file /file; touch /mapped/new && stat -c %u /mapped/new",
        namespaces=MAPPED, mounts=(plain, mapped, one_file),
    )  # fmt: skip
    assert told.split() == ["65534", "0", "0", "0"]
    assert (volume / "new").stat().st_uid == 0


async def test_nobody_else_gets_to_its_root(pods: Pods) -> None:
    made = await pods.begin("sleep", "1000", namespaces=MAPPED)
    shown = Path(made.root_path).parents[3] / "roots" / made.id / "rootfs" / "bin"
    for user, expected in ((200_000, 0), (1000, 2)):
        done = subprocess.run(["ls", shown], user=user, group=user, extra_groups=[], capture_output=True, check=False)
        assert done.returncode == expected


async def test_it_starts_again_with_what_it_wrote_and_after_a_restart_of_the_service(
    pods: Pods, place: tuple[Runtimed, Path]
) -> None:
    made = await pods.begin("sh", "-c", "cat /kept; echo more >> /kept; sleep 1000", namespaces=MAPPED)
    kept = place[1] / "snapshots" / made.id / "upper" / "kept"
    await asyncio.to_thread(eventually, lambda: kept.exists() and kept.read_text() == "more\n", "it has written once")
    await place[0].restart()
    pods.__init__(place[0], pods.runtime, pods.log.parent)  # type: ignore[misc]  # the channel is another one
    pods.made.append(made.id)
    assert (await pods.containers.get(made.id)).state.pid == made.state.pid
    await pods.containers.restart(made.id, 0)
    assert await pods.until(2) == ["cat: can't open '/kept': No such file or directory", "more"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def remapped() -> AsyncIterator[Runtimed]:
    """A runtimed that gives every container a user namespace."""
    with reachable() as directory:
        for name in ("subuid", "subgid"):
            (directory / name).write_text("me:300000:65536\n")
        options = (
            "--userns-remap",
            "me",
            "--subuid-file",
            f"{directory}/subuid",
            "--subgid-file",
            f"{directory}/subgid",
        )
        async with running(directory, *options) as (process, _):
            yield process
        assert mounts_below(directory) == []


async def test_every_container_has_the_ids_that_are_configured(remapped: Runtimed) -> None:
    read = ("cat", "/proc/self/uid_map")
    assert (await remapped.run(*read, network="bridge"))[1].stdout.split() == [b"0", b"300000", b"65536"]
    made = await remapped.begin("sh", "-c", "echo > /etc/hosts && sleep 1000", network="bridge")
    assert (await remapped.exec(made, *read))[1].stdout.split() == [b"0", b"300000", b"65536"]
    beside = await remapped.run("ls", "-l", "/proc/self/ns/user", network=f"container:{made}")
    alone = await remapped.exec(made, "ls", "-l", "/proc/self/ns/user")
    assert beside[1].stdout.split()[-1] == alone[1].stdout.split()[-1]
    assert (await remapped.run(*read, user="host"))[1].stdout.split() == [b"0", b"0", b"4294967295"]


async def test_volumes_have_one_owner_whoever_writes_to_them(remapped: Runtimed) -> None:
    volume = spec_pb2.Mount(type=spec_pb2.Mount.VOLUME, source="shared", target="/data")
    await remapped.run("touch", "/data/mapped", mounts=[volume])
    await remapped.run("touch", "/data/plain", mounts=[volume], user="host")
    for user in ("", "host"):
        told = await remapped.run(
            "stat", "-c", "%u", "/data", "/data/mapped", "/data/plain", mounts=[volume], user=user
        )
        assert told[1].stdout.split() == [b"0", b"0", b"0"]


async def test_files_are_copied_by_the_ids_that_the_container_has(remapped: Runtimed) -> None:
    assert remapped.channel is not None
    archives = ArchivesClient(remapped.channel)
    made = await remapped.begin("sleep", "1000")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("copied")
        entry.uid, entry.gid = 7, 8
        tar.addfile(entry)

    async def pieces() -> AsyncIterator[bytes]:
        yield packed.getvalue()

    await archives.write(made, "/", pieces())
    assert (await remapped.exec(made, "stat", "-c", "%u:%g", "/copied"))[1].stdout == b"7:8\n"
    back = b"".join([piece async for piece in archives.read(made, "/copied") if isinstance(piece, bytes)])
    with tarfile.open(fileobj=io.BytesIO(back)) as tar:
        (found,) = tar.getmembers()
    assert (found.name, found.uid, found.gid) == ("copied", 7, 8)


async def test_what_dockerd_refuses_is_refused(remapped: Runtimed) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot share the host's network namespace when user namespaces"):
        await remapped.create("true", network="host")
    with pytest.raises(InvalidArgumentError, match="privileged mode is incompatible with user namespaces"):
        await remapped.create("true", security=spec_pb2.Security(privileged=True))
    assert (await remapped.run("true", security=spec_pb2.Security(privileged=True), user="host"))[0] == 0


async def test_devices_of_the_host_stay_its_own(pods: Pods, place: tuple[Runtimed, Path]) -> None:
    """crun gives a container's user what its standard streams are, and without one that is the host's /dev/null."""
    null = Path("/dev/null")

    async def owner() -> tuple[int, int]:
        status = null.stat()
        return status.st_uid, status.st_mode

    before = await owner()
    try:
        try_it = "chmod 600 /dev/null /dev/zero; for n in 0 1 2; do chmod 600 /proc/self/fd/$n; done; cat; sleep 1000"
        for tty in (False, True):
            process = Process(cmd=("sh", "-c", try_it), env=("PATH=/bin",), tty=tty)
            made = await pods.begin("sh", process=process, namespaces=MAPPED)
            assert await owner() == before
            for exec_tty in (False, True):
                await place[0].exec(made.id, "sh", "-c", "chmod 600 /dev/null /proc/self/fd/0", tty=exec_tty)
                assert await owner() == before
    finally:
        os.chown(null, 0, 0)
        null.chmod(0o666)
