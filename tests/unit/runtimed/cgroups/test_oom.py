"""Notices of the memory controller: which tree is asked, and what is left when nobody waits for them any more."""

import asyncio
import os
import select
from contextlib import suppress
from pathlib import Path

import pytest

from runtimed.cgroups.oom import OomNotices
from runtimed.host.facts import CgroupTree
from sampan.sys.inotify import FileWatches


def hybrid(root: Path, version: int) -> tuple[CgroupTree, ...]:
    """A host with two trees, where version ``version`` has the memory controller."""
    memory = {1: frozenset(("pids",)), 2: frozenset(("hugetlb",))}
    memory[version] = frozenset(("memory",))
    return tuple(CgroupTree(root / f"v{number}", number, memory[number]) for number in (1, 2))


def group(root: Path, version: int, file: str, content: str) -> None:
    (root / f"v{version}/sampan/x").mkdir(parents=True)
    (root / f"v{version}/sampan/x" / file).write_text(content)


def descriptors() -> int:
    """How many of the kinds that tell of memory there are; others may go meanwhile, with what earlier tests left."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(each.readlink()) in ("anon_inode:inotify", "anon_inode:[eventfd]")
    return found


@pytest.mark.parametrize(
    ("version", "file", "content"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (2, "memory.events", "low 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n"),
    ],
)
def test_kills_are_counted_in_the_tree_that_has_the_memory_controller(
    tmp_path: Path, version: int, file: str, content: str
) -> None:
    group(tmp_path, version, file, content)
    notices = OomNotices(hybrid(tmp_path, version), FileWatches())
    assert notices.kills("/sampan/x") == 3
    assert notices.kills("/sampan/gone") == 0


async def test_a_host_without_the_memory_controller_notifies_nothing() -> None:
    notices = OomNotices((CgroupTree(Path("/nonexistent"), 2, frozenset(("pids",))),), FileWatches())
    assert notices.kills("/sampan/x") == 0
    notices.watch("/sampan/x", lambda _: None).close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_cgroup_that_is_gone_is_an_error_and_leaves_no_descriptor(tmp_path: Path, version: int) -> None:
    watches = FileWatches()
    notices = OomNotices(hybrid(tmp_path, version), watches)
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        notices.watch("/sampan/x", lambda _: None)
    watches.close()
    assert descriptors() == before


async def test_many_cgroups_of_version_2_share_a_descriptor_and_are_told_apart(tmp_path: Path) -> None:
    tree = CgroupTree(tmp_path, 2, frozenset(("memory",)))
    watches, told, came = FileWatches(), [], asyncio.Event()
    notices = OomNotices((tree,), watches)

    def notify(name: str) -> None:
        told.append(name)
        came.set()

    before = descriptors()
    groups = []
    for number in range(50):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/memory.events").write_text("oom_kill 0\n")
        groups.append(notices.watch(f"/{number}", lambda _, name=f"{number}": notify(name)))  # type: ignore[misc]
    assert descriptors() == before + 1
    groups[8].close()
    for number in (8, 7):
        with (tmp_path / f"{number}/memory.events").open("r+") as file:
            file.write("oom_kill 1\n")
    await came.wait()
    assert told == ["7"]
    for watch in groups:
        watch.close()  # twice for one of them
    watches.close()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("there", "gone", "kills"),
    [
        ((2,), (), 2),
        ((1,), (1,), 1),  # the removal, told by the same descriptor
        ((), (1,), 0),
        ((), (2,), 1),
        ((), (1, 1), 1),  # either may be the removal, and both are not
        ((1,), (1, 2), 3),
    ],
)
async def test_what_is_read_when_a_cgroup_of_version_1_has_gone_is_told_but_for_its_removal(
    tmp_path: Path, there: tuple[int, ...], gone: tuple[int, ...], kills: int
) -> None:
    group(tmp_path, 1, "memory.oom_control", "oom_kill 0\n")
    control = tmp_path / "v1/sampan/x/cgroup.event_control"
    control.write_text("")
    told: list[int] = []
    watch = OomNotices(hybrid(tmp_path, 1), FileWatches()).watch("/sampan/x", told.append)
    notice = int(control.read_text().split()[0])
    try:
        for count in there:
            os.eventfd_write(notice, count)
            await _read(notice)
        (control.parent / "memory.oom_control").unlink()
        for count in gone:
            os.eventfd_write(notice, count)
            await _read(notice)
    finally:
        watch.close()
    assert sum(told) == kills


async def _read(notice: int) -> None:
    """Wait until what was told by a descriptor has been read."""
    while select.select([notice], [], [], 0)[0]:  # noqa: ASYNC110 - the loop reads it
        await asyncio.sleep(0)
