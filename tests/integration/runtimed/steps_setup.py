"""A real runtimed with roots for steps: snapshots that a test prepares as a builder does."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc
from sampan.build.step import StepExit, StepMount, StepNetwork, StepProcess, StepSpec
from sampan.client.runtime.steps import StepsClient
from sampan.wire.channel import open_channel
from tests.contract.steps import outcome
from tests.fakes.snapshotter import FakeSnapshotter
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running


class Builder:
    """What a builder has: snapshots of its own, a directory that steps may be shown, and the client."""

    def __init__(self, runtimed: Runtimed, snapshotter: FakeSnapshotter, steps: StepsClient) -> None:
        self.runtimed = runtimed
        self.steps = steps
        self.snapshotter = snapshotter
        self.data = runtimed.roots / "data/buildd"
        self.run = runtimed.run_root / "buildd"
        for directory in (self.data, self.run):
            directory.mkdir()

    async def prepare(self, parent: str = "busybox") -> str:
        """Return the key of a new active snapshot."""
        key = f"build/{secrets.token_hex(4)}"
        async with open_channel(self.runtimed.run_root / "snapshotter.sock") as channel:
            await snapshots_pb2_grpc.SnapshotsStub(channel).Prepare(pb.PrepareSnapshotRequest(key=key, parent=parent))
        return key

    def written(self, key: str) -> list[str]:
        """Return what a layer of the snapshot would have: what was written to it, directories on the way left out."""
        upper = self.snapshotter.root / key / "upper"
        below = {path.relative_to(upper).as_posix() for path in upper.rglob("*")}
        lower = self.snapshotter.parents["busybox"]
        return sorted(path for path in below if not ((upper / path).is_dir() and (lower / path).is_dir()))

    def spec(self, root: str, *args: str, **fields: object) -> StepSpec:
        """Return a step without a network that runs ``args``; ``process_``… are fields of its process."""
        process = {name.removeprefix("process_"): fields.pop(name) for name in list(fields) if "process_" in name}
        fields.setdefault("network", StepNetwork.NONE)
        made = StepProcess(args, ("PATH=/bin",), **process)  # type: ignore[arg-type]  # by name
        return StepSpec(secrets.token_hex(16), made, root, **fields)  # type: ignore[arg-type]

    async def sh(self, script: str, root: str = "", *mounts: StepMount, **fields: object) -> tuple[StepExit, str, str]:
        """Run a script, in a new root if none is given; return its exit and its output."""
        spec = self.spec(root or await self.prepare(), "sh", "-c", script, mounts=mounts, **fields)
        end, out, errors = await outcome(self.steps, spec)
        return end, out.decode(), errors.decode()

    async def lines(self, script: str, root: str = "", *mounts: StepMount, **fields: object) -> list[str]:
        """Run a script that must succeed; return the lines of its output."""
        end, out, errors = await self.sh(script, root, *mounts, **fields)
        assert (end, errors) == (StepExit(0), ""), (end, out, errors)
        return out.splitlines()

    def leftovers(self) -> dict[str, list[str]]:
        """Return what is there of steps, by kind."""
        run, data = self.runtimed.run_root / "runtimed", self.runtimed.roots / "data/runtimed"
        trees = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        return {
            "bundles": _names(run / "steps"),
            "snapshots": _names(run / "step-snapshots"),
            "scratch": _names(data / "steps"),
            "sandboxes": _names(run / "network/sandboxes"),
            "namespaces": _names(run / "network/netns"),
            "mounts": mounts_below(self.runtimed.roots),
            "cgroups": [
                str(group)
                for tree in trees
                for steps in tree.glob("sampan-*/steps")
                for group in steps.iterdir()
                if group.is_dir() and group.name in self.ids
            ],
        }

    ids: frozenset[str] = frozenset()  # of which ``leftovers`` looks for cgroups; those of other engines are not ours

    async def until_nothing(self) -> None:
        """Return when nothing is left: over gRPC the other side hears of a client's end a moment later."""
        async with asyncio.timeout(60):
            while not self.nothing():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def nothing(self) -> bool:
        return not any(self.leftovers().values())


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@asynccontextmanager
async def building(directory: Path) -> AsyncIterator[Builder]:
    """Start a runtimed for a builder; there must be nothing left of any step at the end."""
    async with (
        running(directory) as (runtimed, snapshotter),
        open_channel(runtimed.run_root / "runtimed.sock") as channel,  # of its own: it outlives a runtimed
    ):
        builder = Builder(runtimed, snapshotter, StepsClient(channel))
        yield builder
        await builder.until_nothing()
        for key in list(snapshotter.active):
            del snapshotter.active[key]


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
