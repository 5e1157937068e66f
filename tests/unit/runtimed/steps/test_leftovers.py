"""What a killed runtimed has left goes at the next start, and nothing else does."""

from collections.abc import Collection
from pathlib import Path

import pytest

from runtimed.cgroups.naming import CgroupNames
from runtimed.cgroups.orphans import Orphans
from runtimed.containers.paths import Paths
from runtimed.host.facts import CgroupTree
from runtimed.steps.leftovers import Leftovers
from runtimed.steps.paths import StepPaths
from sampan.service.set_aside import SetAside
from tests.fakes.steps_runtime import NotedMounts

ID = "0123456789ab"


class NotedOrphans(Orphans):
    """Cgroups that were to be ended."""

    def __init__(self) -> None:
        super().__init__(())
        self.asked: list[str] = []

    def end(self, paths: Collection[str]) -> int:
        self.asked += paths
        return 0

    def kill(self, path: str) -> None:
        self.asked.append(path)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "data", tmp_path / "run")
    made.make()
    return made


def leave(paths: Paths, cgroup: str | None) -> StepPaths:
    """Leave what a step has when it runs."""
    step = StepPaths(ID, paths)
    for directory in (step.files, step.sources / "0", step.sources / "1.merged", step.secrets, step.scratch / "1"):
        directory.mkdir(parents=True)
    (step.sources / "2").touch()
    (paths.step_snapshots / "abc").mkdir()
    if cgroup is not None:
        step.cgroup.write_text(cgroup)
    return step


async def clear(paths: Paths, mounts: NotedMounts) -> list[str]:
    orphans, set_aside = NotedOrphans(), SetAside()
    await Leftovers(paths, mounts, orphans, set_aside, CgroupNames("sampan")).clear()
    return orphans.asked


async def test_processes_mounts_and_directories_go(paths: Paths) -> None:
    leave(paths, f"/mine/{ID}")
    assert await clear(paths, NotedMounts()) == ["/sampan/steps", f"/mine/{ID}"]
    left = [path for place in (paths.steps, paths.step_snapshots, paths.step_scratch) for path in place.iterdir()]
    assert left == []


@pytest.mark.parametrize("cgroup", [None, "", "/", "/sampan"])
async def test_a_cgroup_that_was_not_written_to_its_end_is_nobodys(paths: Paths, cgroup: str | None) -> None:
    leave(paths, cgroup)
    assert await clear(paths, NotedMounts()) == ["/sampan/steps"]
    assert list(paths.steps.iterdir()) == []


def test_nobodys_cgroup_is_not_the_whole_machine(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("1\n")
    orphans = Orphans((CgroupTree(tmp_path, 2, frozenset()),))
    orphans.kill("")
    orphans.kill("/")
    orphans.clear("/")
    assert (tmp_path / "cgroup.procs").exists()
