"""The cgroup of an engine, in the kernel's own trees."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimed.cgroups.orphans import Orphans, remove_idle, remove_parent
from runtimed.host.facts import cgroup_trees
from tests.support.tools import eventually

pytestmark = pytest.mark.root

TREES = cgroup_trees()
NAME = f"sampan-test-{os.getpid()}"


@pytest.fixture
def parents() -> Iterator[list[Path]]:
    paths = [tree.path / NAME for tree in TREES]
    for path in paths:
        path.mkdir()
    yield paths
    for path in paths:
        for below in (*sorted(path.rglob("*/"), reverse=True), path):
            with contextlib.suppress(OSError):
                below.rmdir()


def test_what_killed_containers_left_goes_with_it(parents: list[Path]) -> None:
    for parent in parents:
        (parent / "gone" / "nested").mkdir(parents=True)
    remove_parent(TREES, NAME)
    assert not any(parent.exists() for parent in parents)


def test_a_running_container_keeps_its_cgroups_empty_ones_too(parents: list[Path]) -> None:
    # A cpuset of version 1 takes no process before it has processors.
    parent = next(tree.path / NAME for tree in TREES if tree.version == 2 or "cpuset" not in tree.controllers)
    (parent / "alive" / "nested").mkdir(parents=True)
    (parent / "gone").mkdir()
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            (parent / "alive" / "cgroup.procs").write_text(str(process.pid))
            remove_parent(TREES, NAME)
            assert (parent / "alive" / "nested").is_dir()
            assert not (parent / "gone").exists()
        finally:
            process.kill()

    def gone() -> bool:
        remove_parent(TREES, NAME)
        return not parent.exists()

    eventually(gone, "the kernel has let go of it")


def test_a_container_that_ended_leaves_no_cgroup_in_any_tree(parents: list[Path]) -> None:
    for parent in parents:
        (parent / "ended" / "nested").mkdir(parents=True)
        (parent / "other").mkdir()
    Orphans(TREES).clear(f"/{NAME}/ended")
    assert [[path.name for path in parent.iterdir() if path.is_dir()] for parent in parents] == [["other"]] * len(
        parents
    )


def test_a_process_that_is_left_of_a_container_that_ended_goes_with_its_cgroup(parents: list[Path]) -> None:
    parent = next(tree.path / NAME for tree in TREES if tree.version == 2 or "cpuset" not in tree.controllers)
    (parent / "ended" / "nested").mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as process:
        (parent / "ended" / "nested" / "cgroup.procs").write_text(str(process.pid))
        Orphans(TREES).clear(f"/{NAME}/ended")
        assert not (parent / "ended").exists()
        assert process.wait() == -signal.SIGKILL


def test_a_record_without_a_cgroup_clears_nothing(parents: list[Path]) -> None:
    Orphans(TREES).clear("/")
    Orphans(TREES).clear("")
    Orphans(TREES).clear(f"/{NAME}/never")
    assert all(parent.is_dir() for parent in parents)


def test_what_nobody_has_a_record_of_goes_at_the_start_and_the_parent_stays(parents: list[Path]) -> None:
    for parent in parents:
        (parent / "gone").mkdir()
    remove_idle(TREES, NAME)
    assert all(parent.is_dir() and not (parent / "gone").exists() for parent in parents)


def test_what_is_still_to_be_read_stays_at_the_start(parents: list[Path]) -> None:
    for parent in parents:
        (parent / "ended").mkdir()
    remove_idle(TREES, NAME, (f"/{NAME}/ended",))
    assert all((parent / "ended").is_dir() for parent in parents)
    remove_idle(TREES, NAME)
    assert not any((parent / "ended").exists() for parent in parents)
