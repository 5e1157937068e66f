"""What steps have left whose runtimed was killed: processes, mounts, directories. Their networks go with all others.

Snapshots are the builder's, which hears that its call has ended: places that were made in a root may be left in it.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final

from runtimed.cgroups.naming import CgroupNames, is_of
from runtimed.cgroups.orphans import Orphans
from runtimed.conmon.process import kill_at_work_on
from runtimed.containers.paths import Paths
from runtimed.lifecycle.mounter import Mounter
from runtimed.steps.paths import StepPaths
from sampan.log import log
from sampan.service.set_aside import SetAside
from sampan.sys.trees import remove_tree

_KIND: Final = "leftover"


class Leftovers:
    """Clears them, when runtimed starts and before it serves."""

    def __init__(
        self, paths: Paths, mounter: Mounter, orphans: Orphans, set_aside: SetAside, cgroups: CgroupNames
    ) -> None:
        self._paths = paths
        self._mounter = mounter
        self._orphans = orphans
        self._set_aside = set_aside
        self._cgroups = cgroups

    async def clear(self) -> None:
        """Kill, unmount and remove. What cannot be cleared is set aside."""
        # Also those whose bundle is gone with the run root, unless a request chose where they are.
        await asyncio.to_thread(self._orphans.end, [self._cgroups.steps])
        for bundle in sorted(self._paths.steps.iterdir()):
            log.info("clearing a step that was not finished", step=bundle.name)
            with self._set_aside.guard(_KIND, bundle.name):
                await self._clear(StepPaths(bundle.name, self._paths))
        await asyncio.to_thread(self._clear_shared)

    async def _clear(self, step: StepPaths) -> None:
        await kill_at_work_on(step.bundle)  # the runtime, and what it has not put into the cgroup yet
        await asyncio.to_thread(self._clear_now, step)

    def _clear_now(self, step: StepPaths) -> None:
        with contextlib.suppress(FileNotFoundError):
            cgroup = step.cgroup.read_text()
            if is_of(cgroup, step.id):  # else it was not written to its end, and nothing is in it
                self._orphans.kill(cgroup)
        remove_bundle(step, self._mounter)

    def _clear_shared(self) -> None:
        for path in self._paths.step_snapshots.iterdir():
            with self._set_aside.guard(_KIND, path.name):
                self._mounter.unmount(path)
                path.rmdir()
        for path in self._paths.step_scratch.iterdir():
            with self._set_aside.guard(_KIND, path.name):
                remove_tree(path)


def remove_bundle(step: StepPaths, mounter: Mounter) -> None:
    """Remove the bundle, and all that is mounted in it, and the scratch; blocks. Safe to repeat."""
    unmount_sources(step, mounter)
    # A mount that is still there must not be emptied: only what it is mounted at goes, and then the rest.
    for path in (*_places(step.sources), step.secrets):
        with contextlib.suppress(FileNotFoundError):
            path.rmdir() if path.is_dir() else path.unlink()
    if step.scratch.exists():
        remove_tree(step.scratch)
    if step.bundle.exists():
        shutil.rmtree(step.bundle)  # all in it was made by us or the runtime


def unmount_sources(step: StepPaths, mounter: Mounter) -> None:
    """Unmount what was made for the step alone, snapshots' parts among it; blocks. Safe to repeat."""
    for path in _places(step.sources):
        mounter.unmount(path)
    mounter.unmount(step.secrets)


def _places(sources: Path) -> list[Path]:
    """Return where something is mounted, what others are mounted on last."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(sources.iterdir(), key=lambda path: ("", ".merged", ".lower").index(path.suffix))
    return []
