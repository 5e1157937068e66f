"""A lifecycle whose containers are ``sleep`` processes: no conmon, no OCI runtime, no root.

It lives through ends of the engine: what was recorded, and whether the processes live, is all that the next one knows.
"""

import asyncio
import contextlib
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from runtimed.cgroups.oom import OomNotices
from runtimed.cgroups.usage import table
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import ContainerStore, Intent
from runtimed.events import Events
from runtimed.host.facts import CgroupTree
from runtimed.lifecycle import lifecycle as module
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.oom import OomKills
from runtimed.lifecycle.recovery import Recovery
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.runner import Mounter, Runner, Started
from runtimed.metrics import Metrics
from runtimed.protocol import ContainerRecords, Networking, Snapshots, Volumes
from sampan.resource.container import Container, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, RestartPolicy
from sampan.resource.event import Event
from sampan.service.set_aside import SetAside
from sampan.store.database import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Machine:
    """What outlives an engine, but not a power cut: processes, and how they ended."""

    def __init__(self, cgroups: Path) -> None:
        self.trees = (CgroupTree(cgroups, 2, frozenset(("memory",))),)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.exit_codes: dict[str, int] = {}
        self.paused: set[str] = set()

    async def begin(self, id: str) -> int:
        self.exit_codes.pop(id, None)
        self.processes[id] = process = await asyncio.create_subprocess_exec("sleep", "1000")
        return process.pid

    def kill_for_memory(self, container: Container, count: int) -> None:
        """Count ``count`` more processes of a container that were killed since it was out of memory."""
        file = self._cgroup(container) / "memory.events"
        kills = table(str(file))["oom_kill"]
        with file.open("r+") as events:  # the kernel's files are never cut off
            events.write(f"oom {kills + count}\noom_kill {kills + count}\n")

    def make_cgroup(self, container: Container) -> None:
        self._cgroup(container).mkdir(parents=True)
        (self._cgroup(container) / "memory.events").write_text("oom 0\noom_kill 0\n")

    def remove_cgroup(self, container: Container) -> None:
        shutil.rmtree(self._cgroup(container), ignore_errors=True)

    def _cgroup(self, container: Container) -> Path:
        return self.trees[0].path / container.cgroup_path.strip("/")

    async def end(self, id: str, code: int) -> None:
        """Have a container's process end by itself."""
        process = self.processes.pop(id)
        self.exit_codes[id] = code
        process.kill()
        await process.wait()

    async def cut(self) -> None:
        """Take the power away: nobody sees how anything ended."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self.processes.clear()
        self.exit_codes.clear()
        self.paused.clear()

    def pidfd(self, id: str) -> int:
        process = self.processes.get(id)
        if process is None or process.returncode is not None:
            return -1
        return os.pidfd_open(process.pid)

    def exit_code(self, id: str) -> int | None:
        process = self.processes.get(id)
        if id not in self.exit_codes and process is not None and process.returncode is not None:
            self.exit_codes[id] = 128 - process.returncode if process.returncode < 0 else process.returncode
        return self.exit_codes.get(id)


class FakeRuntime:
    """The OCI runtime, as far as a container is frozen and thawed."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def pause(self, id: str, bundle: Path) -> None:
        self._machine.paused.add(id)

    async def resume(self, id: str, bundle: Path) -> None:
        self._machine.paused.discard(id)


class FakeRunner:
    """Satisfies what the lifecycle asks of a ``Runner``."""

    def __init__(self, machine: Machine, paths: Paths) -> None:
        self._machine = machine
        self._paths = paths
        self.cleared: list[str] = []

    def runtime(self, container: Container) -> FakeRuntime:
        return FakeRuntime(self._machine)

    async def start(self, entry: Entry) -> Started:
        self._machine.make_cgroup(entry.container)
        self._paths.container(entry.id).bundle.mkdir()
        return Started(await self._machine.begin(entry.id), NetworkSettings())

    async def clear(self, container: Container, *, keep_exit: bool = False) -> None:
        self.cleared.append(container.id)
        self._machine.remove_cgroup(container)
        shutil.rmtree(self._paths.container(container.id).bundle, ignore_errors=True)

    async def remove_snapshot(self, id: str) -> None:
        pass


class FakeNetworking:
    async def recover(self, running: object) -> dict[str, NetworkSettings]:
        return {}


class FakeSnapshots:
    async def keys(self) -> tuple[str, ...]:
        return ()


class FakeVolumes:
    async def release(self, container_id: str, *, anonymous: bool) -> None:
        pass


class EngineParts:
    """One engine's life on a machine."""

    def __init__(self, store: ContainerStore, machine: Machine, root: Path) -> None:
        self.paths = Paths(root / "data", root / "run")
        self.paths.make()
        self.background = Background()
        set_aside = SetAside()
        self.memory = MemoryStore(store, random.Random(0), set_aside)
        self.events = Events(store, ())
        self.runner = FakeRunner(machine, self.paths)
        runner = cast("Runner", self.runner)
        self.removal = Removal(
            self.memory, runner, cast("Volumes", FakeVolumes()), self.events, self.paths, lambda _: None
        )
        self.oom = OomKills(OomNotices(machine.trees), self.events, self.paths)
        self.lifecycle = Lifecycle(
            self.memory,
            runner,
            self.removal,
            self.events,
            Metrics(CollectorRegistry(), list),
            self.background,
            self.paths,
            lambda _: None,
            self.oom,
        )
        self.recovery = Recovery(
            self.memory,
            self.lifecycle,
            self.removal,
            runner,
            cast("Networking", FakeNetworking()),
            cast("ContainerRecords", None),
            cast("Snapshots", FakeSnapshots()),
            cast("Mounter", None),
            self.background,
            self.paths,
            set_aside,
            len,
            lambda: None,
        )

    async def make(self, policy: RestartPolicy, digit: str = "a", **fields: object) -> Entry:
        """Record a container that can be started."""
        spec = ContainerSpec(name=f"c{digit}", restart_policy=policy, **fields)  # type: ignore[arg-type]
        cgroup_path = f"/fake/{digit * 64}"
        entry = await self.memory.add(
            self.memory.claim(Container(digit * 64, spec, NOW, runtime="fake", cgroup_path=cgroup_path))
        )
        await self.memory.change(entry, lambda container: container, intent=Intent.SETTLED)
        return entry

    def happened(self) -> list[str]:
        """Return what was told of containers since this engine's start."""
        return [event.action for event in cast("tuple[Event, ...]", tuple(self.events._past))]


class World:
    """A machine with a disk, on which engines live one after the other."""

    def __init__(self, store: Store, root: Path) -> None:
        self._rows = ContainerStore(store)
        self._root = root
        self.machine = Machine(root / "cgroups")

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[EngineParts]:
        """Run an engine; with the block it is killed, and its containers are not."""
        parts = EngineParts(self._rows, self.machine, self._root)
        try:
            await parts.memory.load()
            await parts.recovery.run()
            yield parts
        finally:
            await parts.background.close()
            parts.oom.close()


def patch_kernel(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Put the machine in the place of conmon's files."""
    from runtimed.lifecycle import recovery

    def find_conmon(pid_file: Path, id: str) -> int:
        return world.machine.pidfd(id)

    def find_first_process(pid_file: Path, pid: int) -> int:
        return next((world.machine.pidfd(key) for key, one in world.machine.processes.items() if one.pid == pid), -1)

    monkeypatch.setattr(module, "find_conmon", find_conmon)
    monkeypatch.setattr(recovery, "find_conmon", find_conmon)
    monkeypatch.setattr(module, "find_first_process", find_first_process)
    monkeypatch.setattr(module, "read_exit_code", lambda _, key: world.machine.exit_code(key))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what background work brings about. Raises TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for is other parts' state, which has no event
            await asyncio.sleep(0.01)
