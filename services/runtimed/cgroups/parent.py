"""The cgroup that holds all containers of an engine."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from runtimed.host import CgroupTree


def remove_parent(trees: Sequence[CgroupTree], name: str) -> None:
    """Remove the engine's cgroup from every tree where no container is in it; runtimes make it again."""
    for tree in trees:
        with contextlib.suppress(OSError):  # EBUSY: containers outlive the engine
            Path(tree.path, name).rmdir()
