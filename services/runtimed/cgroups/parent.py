"""The cgroup that holds all containers of an engine."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtimed.host.facts import CgroupTree


def remove_parent(trees: Sequence[CgroupTree], name: str) -> None:
    """Remove the engine's cgroup from every tree where no container is in it; runtimes make it again.

    With it goes what containers left whose monitor or runtime was killed: cgroups without a process.
    """
    for tree in trees:
        parent = Path(tree.path, name)
        with contextlib.suppress(FileNotFoundError):
            for group in list(_children(parent)):
                _remove_idle(group)
        with contextlib.suppress(OSError):  # EBUSY: containers outlive the engine
            parent.rmdir()


def _remove_idle(group: Path) -> None:
    """Remove a group that has no process anywhere; one that has is left alone, with all that is below it."""
    with contextlib.suppress(OSError):  # it vanishes or comes to life meanwhile
        below = [group, *_descendants(group)]
        if not any((one / "cgroup.procs").read_text() for one in below):
            for one in reversed(below):
                one.rmdir()


def _descendants(group: Path) -> Iterator[Path]:
    """Yield the groups below, parents first."""
    for child in _children(group):
        yield child
        yield from _descendants(child)


def _children(group: Path) -> Iterator[Path]:
    return (entry for entry in group.iterdir() if entry.is_dir())
