"""runtimed's cores on a fake machine: one engine's life after the other, each of which may be killed at any step."""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

import runtimed.conmon.process
import runtimed.execs.operations
import runtimed.execs.prepared
import runtimed.lifecycle.lifecycle
import runtimed.lifecycle.recovery
import runtimed.lifecycle.runner
from runtimed.cgroups.oom import OomNotices
from runtimed.conmon.conmon import Conmon
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.memory_store import UP, Entry, MemoryStore
from runtimed.containers.network_records import NetworkRecords
from runtimed.containers.operations import Containers
from runtimed.containers.paths import ContainerPaths
from runtimed.containers.store import ContainerStore, Intent, Row
from runtimed.events import Events
from runtimed.execs.operations import Execs
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.oom import OomKills
from runtimed.lifecycle.recovery import Recovery
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.runner import Parts, Runner
from runtimed.metrics import Metrics
from runtimed.oci.runtime import OciRuntime
from runtimed.protocol import NO_JOINS
from runtimed.streams.streams import Streams
from sampan.resource.container import Status
from sampan.resource.container_spec import ContainerSpec, LogConfig, Process, RestartPolicy
from sampan.resource.event import Event
from sampan.resource.exec import Exec
from sampan.service.set_aside import SetAside
from sampan.store.database import Store
from sampan.sys.inotify import FileWatches
from tests.fakes.crashes import Steps
from tests.fakes.oci_runtime import FakeConmon, FakeOciRuntime
from tests.fakes.runtime_host import Host
from tests.fakes.runtime_parts import FakeBundles, FakeMountedVolumes, FakeMounter, FakeNetworking, FakeSnapshots

_NO_POLICY = RestartPolicy()

# What is recorded of a container's life together with its state.
_HISTORY = re.compile("create( start die)*( start)?( destroy)?")
_LAST = {
    Status.CREATED: ("create",),
    Status.RUNNING: ("start",),
    Status.PAUSED: ("start",),
    Status.RESTARTING: ("die",),
    Status.EXITED: ("die", "create"),  # the latter if its first start failed
    Status.REMOVING: ("create", "die"),
    Status.DEAD: ("create", "die"),
}

# Work that lasts as long as something runs, or that only waits.
_LASTING = ("conmon of", "first process of", "hold exec")


class SteppedStore(ContainerStore):
    """The real store; each of its writes is a step."""

    def __init__(self, store: Store, steps: Steps) -> None:
        super().__init__(store)
        self._steps = steps

    async def add_container(self, row: Row) -> None:
        self._steps.step("record container")
        await super().add_container(row)

    async def set_state(self, row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        self._steps.step(f"record {row.intent.value} {row.container.state.status.value}")
        await super().set_state(row, event, durable=durable)

    async def set_container(self, row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        self._steps.step(f"record all, {row.intent.value}")
        await super().set_container(row, event, durable=durable)

    async def remove_container(self, id: str, event: Event | None = None, *, durable: bool = True) -> None:
        self._steps.step("remove record")
        await super().remove_container(id, event, durable=durable)

    async def add_exec(self, exec: Exec, created_ns: int) -> None:
        self._steps.step("record exec")
        await super().add_exec(exec, created_ns)

    async def set_exec(self, exec: Exec) -> None:
        self._steps.step("record exec again")
        await super().set_exec(exec)


class FakeLogs:
    """Keeps nothing, and all receivers answer: who reads a log writes it himself."""

    async def look_for_receiver(self, config: LogConfig) -> None:
        """They do."""

    def begin(self, entry: Entry, paths: ContainerPaths) -> None:
        """Nothing comes."""

    def release(self, id: str) -> None:
        """Nobody waits."""

    def end(self, id: str) -> None:
        """Nothing has come."""

    async def forget(self, entry: Entry) -> None:
        """There is nothing to forget."""


async def _settled(_id: str) -> None:
    """Whatever there is can be read."""


class Engine:
    """One life of runtimed's cores."""

    def __init__(self, host: Host, store: Store) -> None:
        self.host, self.steps = host, Steps()
        self.paths = host.paths
        self.paths.make()
        rows = self.rows = SteppedStore(store, self.steps)
        self._threads = ThreadPoolExecutor(thread_name_prefix="engine")
        asyncio.get_running_loop().set_default_executor(self._threads)
        self.background, self.stopping = Background(), asyncio.Event()
        self.set_aside = SetAside()
        self.memory = MemoryStore(rows, random.Random(0), self.set_aside)
        self.events = Events(rows, ())
        metrics = Metrics(CollectorRegistry(), list)
        snapshots, mounter = FakeSnapshots(host, self.steps), FakeMounter(host, self.steps)
        networking, volumes = FakeNetworking(host, self.steps), FakeMountedVolumes(host, self.steps)
        bundles, conmon = FakeBundles(), cast("Conmon", FakeConmon(host, self.steps))
        runtimes = {"fake": cast("OciRuntime", FakeOciRuntime(host, self.steps))}
        parts = Parts(
            snapshots,
            networking,
            volumes,
            bundles,
            mounter,
            lambda _: NO_JOINS,
            self._clear_cgroup,
            FakeLogs(),
            lambda _: None,
        )
        self.runner = Runner(self.paths, conmon, runtimes, parts, metrics, None)
        self.execs = Execs(
            self.memory, rows, self.runner, bundles, conmon, self.events, self.background, self.paths, self.stopping
        )
        self.removal = Removal(
            self.memory, self.runner, volumes, self.events, self.paths, self.execs.known.forget_container
        )
        self._watches = FileWatches()
        self._oom = OomKills(OomNotices(host.trees, self._watches), self.events, self.paths)
        self.lifecycle = Lifecycle(
            self.memory,
            self.runner,
            self.removal,
            self.events,
            metrics,
            self.background,
            self.paths,
            lambda _: None,
            self._oom,
        )
        self.containers = Containers(
            self.memory,
            self.lifecycle,
            self.removal,
            self.runner,
            snapshots,
            networking,
            volumes,
            bundles,
            self.events,
            self.background,
            self.paths,
            choose_runtime=lambda _: "fake",
            limits=lambda resources: {"memory": resources.memory_bytes},
        )
        self.streams = Streams(self.paths, self.events, self.background, self.stopping, _settled, self._watches)
        self.recovery = Recovery(
            self.memory,
            self.lifecycle,
            self.removal,
            self.runner,
            networking,
            NetworkRecords(self.memory, self.paths, networking),
            snapshots,
            mounter,
            self.background,
            self.paths,
            self.set_aside,
            host.end_orphans,
            self._remove_idle_cgroups,
        )

    def _clear_cgroup(self, path: str) -> None:
        self.steps.step("clear cgroup")
        self.host.end_orphans([path])
        self.host.remove_cgroup(path)

    def _remove_idle_cgroups(self, keep: Collection[str]) -> None:
        self.steps.step("remove idle cgroups")
        for path in self.host.cgroups - {*keep, *(f"/fake/{one.container_id}" for one in self.host.alive())}:
            self.host.remove_cgroup(path)

    async def recover(self) -> None:
        """As at the start of the service."""
        await self.memory.load()
        await self.recovery.run()
        await self.execs.recover()

    def tasks(self) -> "set[asyncio.Task[object]]":
        """Return the engine's tasks."""
        return {*self.background._waiting, *self.background._changing}

    async def settle(self) -> None:
        """Wait until the engine has nothing more to do."""
        async with asyncio.timeout(60):
            while busy := {task for task in self.tasks() if not self._lasts(task.get_name())}:
                await asyncio.wait(busy, timeout=0.01)  # processes end meanwhile, and tasks come to wait for that
                await asyncio.sleep(0)

    def _lasts(self, task: str) -> bool:
        runs = {f"exec {process.bundle.name}" for process in self.host.alive()}
        return task.startswith(_LASTING) or task in runs

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what background work brings about. Raises TimeoutError after ten seconds."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - what it waits for is other parts' state, which has no event
                await asyncio.sleep(0.001)

    async def die(self) -> None:
        """End at once, whatever it is doing."""
        self.steps.kill()
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._oom.close()
        self._watches.close()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        self._threads.shutdown()  # they end with their process
        self.host.engine_ended(self.steps)

    async def make(self, policy: RestartPolicy = _NO_POLICY, name: str = "web", **fields: object) -> Entry:
        """Create a container that can be started."""
        spec = ContainerSpec(
            name=name,
            chain_id="base",
            process=Process(cmd=("serve",)),
            restart_policy=policy,
            **fields,  # type: ignore[arg-type]  # of a spec, by name
        )
        made, _ = await self.containers.create(spec)
        return self.memory.find(made.id)

    def happened(self) -> list[str]:
        """Return what was told of containers since this engine's start."""
        return [event.action for event in cast("tuple[Event, ...]", tuple(self.events._past))]

    def one(self) -> Entry | None:
        """Return the container, if there is one. Raises ValueError: there are several."""
        entries = list(self.memory)
        if not entries:
            return None
        (entry,) = entries
        return entry


class World:
    """A machine with a database."""

    def __init__(self, store: Store, root: Path) -> None:
        self._store = store
        self.host = Host(root)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """Run an engine: it recovers first, and is killed at the end; its containers are not."""
        engine = Engine(self.host, self._store)
        try:
            await engine.recover()
            yield engine
        finally:
            await engine.die()

    async def killed_in_recovery(self, step: int) -> bool:
        """Run an engine that is killed in its recovery before ``step``; return whether it came that far."""
        engine = Engine(self.host, self._store)
        try:
            return await self.killed_at(engine, step, Engine.recover)
        finally:
            await engine.die()

    async def killed_at(self, engine: Engine, step: int, act: Callable[[Engine], Awaitable[object]]) -> bool:
        """Let ``engine`` do ``act`` and all that follows, killed before ``step``; return whether it came that far."""
        loop, dead = asyncio.get_running_loop(), asyncio.Event()
        engine.steps.arm(step, lambda: loop.call_soon_threadsafe(dead.set))

        async def all_of_it() -> None:
            await act(engine)
            await engine.settle()

        acting = asyncio.create_task(all_of_it(), name="act")
        watching = asyncio.create_task(dead.wait(), name="death")
        await asyncio.wait({acting, watching}, return_when=asyncio.FIRST_COMPLETED)
        killed = engine.steps.killed
        watching.cancel()
        if killed:
            await engine.die()
            acting.cancel()
        results = await asyncio.gather(acting, watching, return_exceptions=True)
        if not killed and isinstance(results[0], BaseException):
            raise results[0]
        return killed


def check_consistent(engine: Engine) -> None:
    """Compare what the machine has with the records: whatever nobody has a use for is a leftover."""
    host, paths = engine.host, engine.paths
    up = {entry.id for entry in engine.memory if entry.status in UP}
    known = {entry.id for entry in engine.memory}
    waiting = {entry.id for entry in engine.memory if entry.status is Status.RESTARTING}
    assert all(entry.intent is Intent.SETTLED for entry in engine.memory)
    assert list(engine.set_aside) == []
    assert host.snapshots == known, "snapshots"
    assert {path.name for path in paths.containers.iterdir()} == known, "homes"
    assert set(host.holds) <= known, "holds of volumes"
    owned = {one.container_id for one in host.alive()}
    assert owned == up, "processes"
    assert set(host.addresses) == up, "addresses"
    assert host.cgroups == {f"/fake/{key}" for key in up}, "cgroups"
    assert {path.parent.name for path in host.mounts} == up, "mounts"
    assert {path.name for path in paths.bundles.iterdir()} == up, "bundles"
    assert host.frozen == {entry.id for entry in engine.memory if entry.status is Status.PAUSED}, "frozen"
    assert {path.name for path in paths.exits.iterdir()} <= waiting, "exit files"
    running = {key for keys in engine.execs.known.ids().values() for key in keys if engine.execs.known.get(key).running}
    assert {path.name for path in paths.execs.iterdir()} == running, "files of execs"
    assert {path.name for path in paths.sockets.iterdir()} == {key[:16] for key in up | running}, "sockets"
    for key in up:
        assert host.first(key).started, "a process that never began"


async def check_journal(engine: Engine) -> None:
    """Compare the histories in the journal with the records: none of these events is ever lost, and none told twice."""
    histories: dict[str, list[str]] = {}
    for event in await engine.rows.events():
        histories.setdefault(event.actor_id, []).append(event.action)
    for entry in engine.memory:
        if entry.intent is not Intent.CREATING:
            assert histories[entry.id][-1] in _LAST[entry.status], f"{histories[entry.id]}, and is {entry.status.value}"
    for key, history in histories.items():
        assert _HISTORY.fullmatch(" ".join(history)), history
        assert (history[-1] == "destroy") == (engine.memory.by_id(key) is None), history


def patch_kernel(monkeypatch: pytest.MonkeyPatch, host: Callable[[], Host]) -> None:
    """Put the host in the place of the kernel and of conmon's files."""

    def find_conmon(pid_file: Path, id: str) -> int:
        return host().find_conmon(pid_file, id)

    async def kill_at_work_on(directory: Path) -> None:
        await host().kill_at_work_on(directory)

    async def finish_kills(_directory: Path) -> None:
        """The host's kills are one step each."""

    monkeypatch.setattr(StdioConnection, "connect", lambda path: host().connect(path))
    monkeypatch.setattr(runtimed.execs.operations, "finish_kills", finish_kills)
    lifecycle, recovery = runtimed.lifecycle.lifecycle, runtimed.lifecycle.recovery
    for module in (lifecycle, recovery, runtimed.lifecycle.runner, runtimed.execs.operations, runtimed.execs.prepared):
        if hasattr(module, "find_conmon"):
            monkeypatch.setattr(module, "find_conmon", find_conmon)
        if hasattr(module, "kill_at_work_on"):
            monkeypatch.setattr(module, "kill_at_work_on", kill_at_work_on)
    monkeypatch.setattr(lifecycle, "find_first_process", lambda file, pid: host().find_first_process(file, pid))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda fd, number: host().send_signal(fd, number))
    monkeypatch.setattr(lifecycle, "next_backoff_s", lambda last_s, ran_s: 0.001)
