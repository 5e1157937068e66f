"""What runtimed's steps are made of, without root: nothing is mounted, and the OCI runtime is a script."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from runtimed.cgroups.naming import CgroupNames
from runtimed.cgroups.oom import OomNotices
from runtimed.cgroups.orphans import Orphans
from runtimed.conmon.conmon import RuntimeCommand
from runtimed.containers.paths import Paths
from runtimed.metrics import Metrics
from runtimed.protocol import NO_JOINS, ExecProcess, Joins, SnapshotMount
from runtimed.steps.memory import MemoryEvents
from runtimed.steps.operations import StepParts, Steps
from runtimed.steps.snapshots import MountedSnapshots
from runtimed.steps.sources import Grants
from sampan.errors import NotFoundError
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Resources
from sampan.sys.inotify import FileWatches
from sampan.sys.measuring import Usage

# As ``runc run`` and ``runc exec``: its own process is the first one, as there are no namespaces.
_RUNTIME = f"""#!{sys.executable} -IS
import json, os, shutil, sys
given = dict(zip(sys.argv[1:], sys.argv[2:]))
config = json.load(open(given["--process"] if "exec" in sys.argv else given["--bundle"] + "/config.json"))
args = config["args"]
if args[0] == "never":  # killed before it has begun
    os.kill(os.getpid(), 9)
if not shutil.which(args[0]):
    message = "runc run failed: unable to start container process: "
    message += f'exec: "{{args[0]}}": executable file not found in $PATH'
    open(given["--log"], "w").write(json.dumps({{"level": "error", "msg": message}}))
    sys.exit(message)
child = os.fork()
if not child:
    os.execvp(args[0], args)
with open(given["--pid-file"] + ".new", "w") as file:
    file.write(str(child))
os.rename(given["--pid-file"] + ".new", given["--pid-file"])
_, status = os.waitpid(child, 0)
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


class PlainSnapshots:
    """Snapshots by key; ``known`` is what there is."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.asked: list[str] = []

    async def prepare(self, key: str, parent: str, *, transient: bool = False) -> tuple[SnapshotMount, ...]:
        raise NotImplementedError

    async def view(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        raise NotImplementedError

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        self.asked.append(key)
        await asyncio.sleep(0)
        if key not in self.known:
            raise NotFoundError(f"snapshot {key} does not exist")
        return (SnapshotMount("bind", f"/{key}", ("rbind",)),)

    async def remove(self, key: str) -> None:
        raise NotImplementedError

    async def usage(self, key: str) -> Usage:
        return Usage()

    async def keys(self) -> Collection[str]:
        return self.known


class NotedMounts:
    """Mounts that are noted; ``mounted`` are those that are there. Those of a source in ``broken`` fail."""

    def __init__(self) -> None:
        self.mounted: dict[Path, SnapshotMount] = {}
        self.count = 0
        self.broken: set[str] = set()

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        if mount.source in self.broken:
            raise OSError(22, "Invalid argument", str(target))
        self.count += 1
        self.mounted[target] = mount

    def attach(self, base: Path, subpath: str, target: Path) -> None:
        raise NotImplementedError  # steps mount no part of anything

    def check_part(self, base: Path, subpath: str) -> None:
        raise NotImplementedError

    def unmount(self, target: Path) -> None:
        if self.mounted.pop(target, None) is not None:  # with it goes what was written to it
            for name in ("etc", "proc", "dev", "sys", "srv"):
                shutil.rmtree(target / name, ignore_errors=True)


class PlainNetworking:
    """Networks, as far as steps need them."""

    def __init__(self) -> None:
        self.attached: set[str] = set()

    async def check(self, spec: ContainerSpec) -> tuple[NetworkSettings, tuple[str, ...]]:
        return NetworkSettings(), ()

    async def attach(self, container: Container) -> NetworkSettings:
        self.attached.add(container.id)
        return NetworkSettings()

    async def detach(self, container_id: str) -> None:
        self.attached.discard(container_id)

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        return {"hosts": b"127.0.0.1\tlocalhost\n"}

    def linked(self, container_id: str) -> Mapping[str, Sequence[tuple[str, str]]]:
        return {}

    async def renamed(self, container: Container) -> NetworkSettings | None:
        raise NotImplementedError

    async def recover(self, running: Collection[Container]) -> Mapping[str, NetworkSettings]:
        return {}


class PlainBundles:
    """Bundles with no more in them than what runs."""

    def cgroup_namespace(self, spec: ContainerSpec) -> str:
        return spec.namespaces.cgroup or "private"

    def cgroup_path(self, container_id: str, spec: ContainerSpec) -> str:
        return f"/{container_id}"

    def check(self, spec: ContainerSpec) -> tuple[str, ...]:
        return ()

    def enforced(self, resources: Resources) -> Resources:
        return resources

    def config(
        self, container: Container, root: Path, *, files: Path, init_path: str | None, joins: Joins = NO_JOINS
    ) -> dict[str, object]:
        return {"args": list(container.spec.process.args), "hosts": (files / "hosts").read_text()}

    def exec_process(self, container: Container, root: Path, request: ExecProcess) -> dict[str, object]:
        return {"args": list(request.process.args)}


class StepsMachine:
    """Steps and what they are made of, below one directory."""

    def __init__(self, directory: Path, *snapshots: str) -> None:
        self.paths = Paths(directory / "data", directory / "run")
        self.paths.make()
        self.snapshots = PlainSnapshots(*snapshots)
        self.mounts = NotedMounts()
        self.networking = PlainNetworking()
        self.registry = CollectorRegistry()
        self.stopping = asyncio.Event()
        runtime = directory / "runtime"
        runtime.write_text(_RUNTIME)
        runtime.chmod(0o755)
        self.watches = FileWatches()
        parts = StepParts(
            MountedSnapshots(self.snapshots, self.mounts, self.paths),
            self.networking,
            PlainBundles(),
            self.mounts,
            Orphans(()),
            MemoryEvents(OomNotices((), self.watches), None),
            Grants((directory / "granted",), (directory / "granted",)),
            Metrics(self.registry, lambda: ()),
        )
        command = RuntimeCommand(runtime, directory / "unused")
        self.steps = Steps(
            parts, self.paths, lambda: command, os.environ, CgroupNames("sampan"), self.stopping, self.watches
        )

    def left(self) -> list[str]:
        """Return what is left of steps: nothing, when none runs."""
        places = (self.paths.steps, self.paths.step_snapshots, self.paths.step_scratch)
        found = [str(path) for place in places for path in place.iterdir()]
        return [*found, *map(str, self.mounts.mounted), *self.networking.attached]

    def counted(self, outcome: str) -> float:
        """Return how many steps have ended so."""
        return self.registry.get_sample_value("sampan_steps_total", {"outcome": outcome}) or 0

    def bundle(self, id: str) -> dict[str, object]:
        """Return the bundle of a step that runs."""
        config: dict[str, object] = json.loads((self.paths.steps / id / "config.json").read_text())
        return config
