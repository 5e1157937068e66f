"""Volumes that take a real kernel: mounts made by driver options, and everything that a copy must keep."""

import os
import stat
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.lifecycle.background import Background
from runtimed.volumes.operations import LocalVolumes
from runtimed.volumes.store import VolumeStore
from sampan.errors import StartError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, Mount, MountType
from sampan.resource.volume import VolumeRequest
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

pytestmark = pytest.mark.root

A = "a" * 64
B = "b" * 64


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[LocalVolumes]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as store:
        made = LocalVolumes(tmp_path / "volumes", VolumeStore(store), lambda *_: None, Background(), SetAside())
        await made.recover()
        yield made


async def container(volumes: LocalVolumes, id: str, name: str) -> Container:
    spec = ContainerSpec(mounts=(Mount(MountType.VOLUME, "/data", name),))
    return Container(id, spec, datetime.now(UTC), mounts=await volumes.resolve(id, spec))


def mounted(path: str) -> list[str]:
    return [line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == path]


async def test_a_tmpfs_volume_is_mounted_once_and_unmounted_with_its_last_user(
    volumes: LocalVolumes, tmp_path: Path
) -> None:
    await volumes.create(VolumeRequest("t1", "", {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=750"}, {}))
    first, second = await container(volumes, A, "t1"), await container(volumes, B, "t1")
    source = first.mounts[0].source
    assert mounted(source) == []
    for one in (first, second, first):
        await volumes.fill(one, tmp_path)
    assert mounted(source) == ["tmpfs"]
    assert stat.S_IMODE(Path(source).stat().st_mode) == 0o750
    await volumes.release(A, anonymous=True)
    assert mounted(source) == ["tmpfs"]
    await volumes.release(B, anonymous=True)
    assert mounted(source) == []
    await volumes.remove("t1")


async def test_a_bind_volume_shows_a_host_directory_which_outlives_it(volumes: LocalVolumes, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("x")
    await volumes.create(VolumeRequest("b1", "", {"type": "none", "device": str(host), "o": "bind"}, {}))
    one = await container(volumes, A, "b1")
    await volumes.fill(one, tmp_path)
    await volumes.fill(one, tmp_path)
    assert os.listdir(one.mounts[0].source) == ["file"]
    assert len(mounted(one.mounts[0].source)) == 1
    await volumes.release(A, anonymous=True)
    await volumes.remove("b1")
    assert (host / "file").exists()


async def test_a_host_directory_with_content_is_never_filled_from_an_image(
    volumes: LocalVolumes, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("the user's")
    (tmp_path / "root/data").mkdir(parents=True)
    (tmp_path / "root/data/file").write_text("the image's")
    options = {"type": "none", "device": str(host), "o": "bind"}
    spec = ContainerSpec(mounts=(Mount(MountType.VOLUME, "/data", "b3", volume_options=options),))
    one = Container(A, spec, datetime.now(UTC), mounts=await volumes.resolve(A, spec))
    await volumes.fill(one, tmp_path / "root")
    assert (host / "file").read_text() == "the user's"
    await volumes.release(A, anonymous=True)


async def test_a_mount_that_fails_says_what_was_to_be_mounted(volumes: LocalVolumes, tmp_path: Path) -> None:
    await volumes.create(VolumeRequest("b2", "", {"type": "none", "device": str(tmp_path / "nosuch"), "o": "bind"}, {}))
    with pytest.raises(StartError, match=r"failed to mount local volume: mount /\S+/nosuch:.*no such file"):
        await volumes.fill(await container(volumes, A, "b2"), tmp_path)


async def test_a_copy_keeps_owners_attributes_devices_and_capabilities(volumes: LocalVolumes, tmp_path: Path) -> None:
    data = tmp_path / "root/data"
    (data / "dir").mkdir(parents=True)
    os.mknod(data / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(data / "fifo")
    (data / "tool").write_text("#!")
    os.chown(data / "tool", 1000, 1001)
    (data / "tool").chmod(0o4755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(data / "tool", "security.capability", capability)
    os.setxattr(data / "dir", "user.note", b"here")
    os.chown(data / "dir", 7, 8)
    one = await container(volumes, A, "copy")
    await volumes.fill(one, tmp_path / "root")
    copy = Path(one.mounts[0].source)
    assert (copy / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((copy / "fifo").stat().st_mode)
    tool = (copy / "tool").stat()
    assert (tool.st_uid, tool.st_gid, stat.S_IMODE(tool.st_mode)) == (1000, 1001, 0o4755)
    assert os.getxattr(copy / "tool", "security.capability") == capability
    assert os.getxattr(copy / "dir", "user.note") == b"here"
    assert ((copy / "dir").stat().st_uid, (copy / "dir").stat().st_gid) == (7, 8)
    same = subprocess.run(["diff", "-r", "--no-dereference", data, copy], capture_output=True, text=True, check=False)
    assert "Only in" not in same.stdout
