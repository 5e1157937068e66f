"""A real containerd with the snapshotter as a proxy plugin: it pulls, runs and commits on our snapshots.

containerd applies layers itself, onto the mounts that ``Prepare`` returns, and compares the mounts of two snapshots to
make a layer: both must be what they say for every driver.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.images import Entry, Image, directory, layer, push, tar
from tests.support.registry import Registry, run_registry
from tests.support.tools import eventually, need, need_root, unmount
from tests.support.trees import busybox_image

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]

# Beside what the file for users says.
CONFIG = """
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{base}/c.sock"
[ttrpc]
  address = "{base}/c.sock.ttrpc"
"""


@dataclass(frozen=True)
class Containerd:
    """A running containerd."""

    base: Path
    socket: Path

    def ctr(self, *arguments: str) -> str:
        """Run ctr to its end and return what it wrote."""
        return self.ctr_bytes(*arguments).decode()

    def ctr_bytes(self, *arguments: str) -> bytes:
        """Run ctr, whose output may be an archive."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "test", *arguments]
        result = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert result.returncode == 0, (arguments, result.stderr.decode(), (self.base / "log").read_text()[-2000:])
        return result.stdout

    def snapshots(self, *arguments: str) -> str:
        """Run ``ctr snapshots`` on ours."""
        return self.ctr("snapshots", "--snapshotter", "sampan", *arguments)

    def run(self, image: str, name: str, *command: str, keep: bool = False) -> str:
        """Run a container and return what it wrote."""
        options = ["--snapshotter", "sampan", "--fifo-dir", str(self.base / "fifo")]
        return self.ctr("run", *([] if keep else ["--rm"]), *options, image, name, *command)


@pytest.fixture(params=["erofs", "overlayfs", "native"])
def containerd(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    need_root()
    need("containerd", "ctr", "runc", "containerd-shim-runc-v2")
    base = Path(tempfile.mkdtemp(prefix="cd", dir="/tmp"))
    users = (ROOT / "deploy/containerd/config.toml").read_text()
    assert "/run/sampan/" in users
    ours = users.replace("/run/sampan/", f"{base}/r/").replace(
        "version = 2\n", f"version = 2\n{CONFIG.format(base=base)}"
    )
    (base / "config.toml").write_text(ours)
    roots = ["--data-root", f"{base}/d", "--run-root", f"{base}/r", "--driver", request.param]
    found = Containerd(base, base / "c.sock")
    try:
        with _process(base, sys.executable, "-m", "snapshotter", *roots):
            eventually((base / "r/snapshotter.sock").exists, "the snapshotter serves")
            with _process(base, "containerd", "--config", str(base / "config.toml"), "--log-level", "warn"):
                eventually(found.socket.exists, "containerd serves")
                yield found
        left = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {base}/" in line]
        assert left == []
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def _process(base: Path, *command: str) -> Iterator[None]:
    with (base / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with run_registry(tmp_path / "registry") as registry:
        yield registry


def three_layers() -> Image:
    first = tar(directory("d"), Entry("d/kept", b"1"), Entry("d/gone", b"1"), directory("o"), Entry("o/below", b"1"))
    second = tar(Entry("d/.wh.gone"), directory("o"), Entry("o/.wh..wh..opq"), Entry("o/above", b"2"))
    base = busybox_image()
    return Image([*base.layers, layer(first), layer(second)], base.config)


def test_it_pulls_runs_and_commits_on_our_snapshots(containerd: Containerd, registry: Registry) -> None:
    push(registry, "x/three", "1", three_layers())
    image = f"{registry.address}/x/three:1"
    containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "sampan", image)

    look = "cat /d/kept; ls /d /o; id -u"
    assert containerd.run(image, "one", "/bin/sh", "-c", look).split() == ["1/d:", "kept", "/o:", "above", "0"]

    change = "rm /d/kept; echo new > /d/new; chmod 4755 /bin/busybox; mkdir /e; rm -r /o; mkdir /o; echo 3 > /o/third"
    containerd.run(image, "two", "/bin/sh", "-c", change, keep=True)
    parent = json.loads(containerd.snapshots("info", "two"))["Parent"]
    diff = containerd.ctr_bytes("snapshots", "--snapshotter", "sampan", "diff", parent, "two")
    assert {"d/new", "e/", "o/third", "d/.wh.kept"} <= _names(diff)

    containerd.snapshots("label", "two", "containerd.io/gc.root=test")  # or it goes with its container
    containerd.ctr("containers", "delete", "--keep-snapshot", "two")
    containerd.snapshots("commit", "frozen", "two")
    usage = containerd.snapshots("usage", "frozen").splitlines()[-1].split()
    assert usage[0] == "frozen"
    containerd.snapshots("prepare", "three", "frozen")
    assert "frozen" in containerd.snapshots("tree")
    with _mounted(containerd, "three") as tree:
        assert sorted(path.name for path in (tree / "d").iterdir()) == ["new"]
        assert [path.name for path in (tree / "o").iterdir()] == ["third"]
        assert (tree / "bin/busybox").stat().st_mode & 0o7777 == 0o4755
    for key in ("three", "frozen"):
        containerd.snapshots("remove", key)


def test_what_it_pulled_goes_when_its_image_goes(containerd: Containerd, registry: Registry) -> None:
    push(registry, "x/three", "1", three_layers())
    image = f"{registry.address}/x/three:1"
    containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "sampan", image)
    assert containerd.snapshots("ls").count("Committed") == 3
    containerd.ctr("images", "remove", "--sync", image)
    assert containerd.snapshots("ls").count("Committed") == 0
    eventually(lambda: not list((containerd.base / "d/snapshotter/s").iterdir()), "no snapshot is left on disk")


def _names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return {member.name + ("/" if member.isdir() else "") for member in file}


@contextlib.contextmanager
def _mounted(containerd: Containerd, key: str) -> Iterator[Path]:
    target = containerd.base / "mounted"
    target.mkdir()
    command = containerd.snapshots("mounts", str(target), key)
    subprocess.run(["sh", "-c", command], check=True)
    try:
        yield target
    finally:
        unmount(target)
