"""The power goes in the middle of pulls: what is listed afterwards is whole.

The engine's data is on an ext4 in a file, and that file on an XFS, which can copy a file in one step while it is being
written. A copy is the disk as it was at that moment: with all that the kernel had sent to it, and nothing of what was
still in memory.
"""

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from sampan.sys.files import clone
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry
from tests.support.tools import need, unmount
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar

pytestmark = [pytest.mark.root, pytest.mark.slow]

# How many of the copies an engine is started on.
TRIED: Final = 10

# Between two copies: some twenty of them fall into one pull.
PAUSE_S: Final = 0.03

BASE: Final = layer(tar(Entry("base", random.Random(0).randbytes(2 << 20))))


@dataclass(slots=True)
class Disk:
    """A disk whose power can go."""

    file: Path
    mounted: Path
    cuts: list[Path] = field(default_factory=list)

    def cut(self) -> None:
        """Keep the disk as it is at this moment."""
        kept = self.file.with_name(f"cut-{len(self.cuts)}")
        with self.file.open("rb") as source, kept.open("wb") as target:
            clone(source.fileno(), target.fileno())
        self.cuts.append(kept)


@contextlib.contextmanager
def mounted(file: Path, place: Path) -> Iterator[Path]:
    """Mount a file that holds a file system."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", file, place], check=True)
    try:
        yield place
    finally:
        unmount(place)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    need("mkfs.xfs", "mkfs.ext4")
    outer = tmp_path / "outer.img"
    with outer.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", outer], check=True)
    with mounted(outer, tmp_path / "outer") as place:
        inner = place / "disk.img"
        with inner.open("wb") as file:
            file.truncate(192 << 20)
        subprocess.run(["mkfs.ext4", "-q", inner], check=True)
        yield Disk(inner, tmp_path / "disk")


def check(engine: Engine, *flags: str) -> list[dict[str, Any]]:
    answer = json.loads(engine.sampan_fails("system", "check", "--format", "json", *flags).stdout)
    assert not answer["skipped"]
    findings: list[dict[str, Any]] = answer["findings"]
    return findings


def work(disk: Disk, docker: DockerClient, names: list[str]) -> None:
    """Pull images while copies are taken, remove one, and make a container."""
    for step in (*(["pull", "--quiet", name] for name in names), ["rmi", names[0]], ["create", names[1], "true"]):
        client = docker.start(*step)
        while client.poll() is None:
            disk.cut()
            time.sleep(PAUSE_S)
        assert client.returncode == 0, client.communicate()


def test_what_is_listed_after_a_power_cut_is_whole(disk: Disk, registry: Registry, docker_config: Path) -> None:
    names = []
    for number in (1, 2):
        top = [Entry(f"top-{number}", random.Random(number).randbytes(2 << 20)), Entry("mark", b"whole\n")]
        image = Image([layer(busybox_tar()), BASE, layer(tar(*top))], BUSYBOX_CONFIG)
        push(registry, f"cut{number}", "1", image)
        names.append(f"{registry.address}/cut{number}:1")
    with mounted(disk.file, disk.mounted), run_engine(data_root=disk.mounted / "d") as engine:
        work(disk, DockerClient(engine.host, docker_config), names)

    listed = set()
    for position in range(TRIED):
        cut = disk.cuts[(len(disk.cuts) - 1) * position // (TRIED - 1)]
        with mounted(cut, disk.mounted), run_engine(data_root=disk.mounted / "d") as engine:
            docker = DockerClient(engine.host, docker_config)
            images = docker("images", "--format", "{{.Repository}}").lines
            assert check(engine) == [], f"{cut.name}: {images} are listed"
            listed.add(tuple(sorted(images)))
            for name in names:
                docker("pull", "--quiet", name)
            assert docker("run", "--rm", "--network", "none", names[0], "cat", "/mark").stdout == "whole\n"
            assert check(engine) == [], f"{cut.name}, pulled again"
    assert () in listed, "some cuts are before the first image"
    assert len(listed) > 1, "and some behind it"
