"""A machine for runtimed's cores, without root: its processes, mounts, snapshots, networks and volumes.

``Host`` is what outlives an engine; the classes beside it are one engine's view of it, and satisfy the protocols of
``runtimed.protocol``. Each thing that they do to the machine is a step, at which the engine can be killed.
"""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtimed.cgroups.usage import table
from runtimed.conmon.conmon import LogFile, RuntimeCommand, Stdio
from runtimed.conmon.process import ended
from runtimed.conmon.running import read_exit_code
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.paths import ContainerPaths, ExecPaths, Paths
from runtimed.host.facts import CgroupTree
from runtimed.protocol import NO_JOINS, ExecProcess, Joins, SnapshotMount
from sampan.docker.options.mounts import check_mounts
from sampan.errors import ConflictError, NotFoundError, StartError
from sampan.resource.container import Container, EndpointState, MountPoint, NetworkSettings
from sampan.resource.container_spec import ContainerSpec, Endpoint, MountType
from tests.fakes.crashes import Steps


@dataclass
class FakeProcess:
    """A process with its conmon."""

    pid: int
    container_id: str
    bundle: Path
    exit_file: Path
    created: bool = False  # the OCI runtime has made it
    started: bool = False
    ended: bool = False
    below: "list[FakeProcess]" = field(default_factory=list)  # of its PID namespace: they end with it
    clients: list[socket.socket] = field(default_factory=list)  # conmon's ends of their connections
    pending: list[int] = field(default_factory=list)  # signals that came while it was frozen
    waits_for: Steps | None = None  # the engine that has not told it yet what to run
    done: int = field(default_factory=lambda: os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def end(self, code: int) -> None:
        """End it: conmon writes the code down and goes."""
        if not self.ended and self.exit_file.parent.is_dir():
            self.exit_file.write_text(str(code))
        self.vanish()

    def vanish(self) -> None:
        """End it with its conmon, which writes nothing down."""
        if not self.ended:
            self.ended = True
            os.eventfd_write(self.done, 1)
            for client in self.clients:
                client.close()
            for other in self.below:
                other.end(137)


# What a process that knows no signals lives through, or stops at: signal(7).
_HARMLESS = frozenset(
    (
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    )
)
_EVENTS = "memory.events"


class Host:
    """Everything that is there when an engine is not."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root / "data", root / "run")
        self.images = {"base"}
        self.snapshots: set[str] = set()
        self.mounts: dict[Path, SnapshotMount] = {}
        self.addresses: dict[str, str] = {}  # by container: its namespace and address
        self.volumes: dict[str, bool] = {}  # by name: whether it is anonymous
        self.holds: dict[str, list[str]] = {}  # by container
        self.processes: list[FakeProcess] = []
        self.frozen: set[str] = set()
        # Cgroups that a runtime has made and not taken away: it was killed, it may be. With the memory controller.
        self.cgroups: set[str] = set()
        self.trees = (CgroupTree(root / "cgroups", 2, frozenset(("memory",))),)
        self.limits: dict[str, Mapping[str, object]] = {}
        self.fails: dict[str, BaseException] = {}  # what is raised by the step of that name
        self.gates: dict[str, asyncio.Event] = {}  # what the step of that name waits for
        self.waiting: set[str] = set()  # steps that have come to their gates
        self._fds: dict[int, FakeProcess] = {}
        self._connections: list[StdioConnection] = []  # of the engine that runs

    def begin(self, container_id: str, bundle: Path, exit_file: Path) -> FakeProcess:
        process = FakeProcess(1_000_000_000 + len(self.processes), container_id, bundle, exit_file)
        self.processes.append(process)
        return process

    async def passed(self, step: str) -> None:
        """Wait at the gate of a step, if there is one. Raises what the step fails with, if it is to fail."""
        if gate := self.gates.get(step):
            self.waiting.add(step)
            await gate.wait()
        if error := self.fails.get(step):
            raise error

    def make_cgroup(self, path: str) -> None:
        """Make one in which nothing has run out of memory yet."""
        self.cgroups.add(path)
        directory = self.trees[0].path / path.strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _EVENTS).write_text("oom 0\noom_kill 0\n")

    def remove_cgroup(self, path: str) -> None:
        """Remove one, if it is there."""
        self.cgroups.discard(path)
        shutil.rmtree(self.trees[0].path / path.strip("/"), ignore_errors=True)

    def kill_for_memory(self, container: Container, count: int) -> None:
        """Count ``count`` more processes of a container that were killed since it was out of memory."""
        file = self.trees[0].path / container.cgroup_path.strip("/") / _EVENTS
        kills = table(str(file))["oom_kill"]
        with file.open("r+") as events:  # the kernel's files are never cut off
            events.write(f"oom {kills + count}\noom_kill {kills + count}\n")

    def close(self) -> None:
        """Let go of what its processes hold of the real machine."""
        for process in self.processes:
            process.vanish()
            os.close(process.done)
        self.processes.clear()

    def cut(self) -> None:
        """Take the power away: nobody sees how anything ended, and what is not on a disk is gone."""
        for process in self.alive():
            process.vanish()
        self.mounts.clear()
        self.addresses.clear()
        self.frozen.clear()
        self.limits.clear()
        for path in tuple(self.cgroups):
            self.remove_cgroup(path)
        shutil.rmtree(self.paths.run)

    def alive(self, container_id: str | None = None) -> list[FakeProcess]:
        """Return the processes of one container, or all."""
        return [one for one in self.processes if not one.ended and container_id in (None, one.container_id)]

    def first(self, container_id: str) -> FakeProcess:
        """Return the container's own process. Raises StopIteration."""
        return next(one for one in self.alive(container_id) if one.bundle.parent == self.paths.bundles)

    def engine_ended(self, steps: Steps) -> None:
        """Close the pipes and sockets of an engine: what waited for its word ends."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        for process in self.processes:  # conmon closes its end with the other
            while process.clients:
                process.clients.pop().close()
        for process in self.alive():
            if process.waits_for is steps:
                process.end(127)

    # What the kernel and conmon's files are asked for.

    def connect(self, attach_socket: Path) -> StdioConnection:
        """Connect to a process's streams. Raises ConflictError: it has ended."""
        bundle = attach_socket.parent.resolve()
        process = next((one for one in self.alive() if one.bundle.resolve() == bundle), None)
        if process is None:
            raise ConflictError("the process has ended: Connection refused")
        ours, conmons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        process.clients.append(conmons)
        self._connections.append(StdioConnection(ours))
        return self._connections[-1]

    def _fd(self, process: FakeProcess) -> int:
        fd = os.dup(process.done)
        self._fds[fd] = process
        return fd

    def find_conmon(self, pid_file: Path, id: str) -> int:
        try:
            pid = int(pid_file.read_text())
        except (OSError, ValueError):
            return -1
        return next((self._fd(one) for one in self.alive(id) if one.pid == pid), -1)

    def find_first_process(self, pid_file: Path, pid: int) -> int:
        return next((self._fd(one) for one in self.alive() if one.pid == pid), -1)

    def send_signal(self, fd: int, number: int) -> None:
        process = self._fds[fd]
        if process.ended:
            raise ProcessLookupError
        if number == signal.SIGKILL:
            self.frozen.discard(process.container_id)
        if number in _HARMLESS:
            return
        if process.container_id in self.frozen:
            process.pending.append(number)
        else:
            process.end(128 + number)

    def thaw(self, container_id: str) -> None:
        """Let a container go on; signals that came meanwhile come now."""
        self.frozen.discard(container_id)
        for process in self.alive(container_id):
            for number in process.pending[:1]:
                process.end(128 + number)

    async def kill_at_work_on(self, directory: Path) -> None:
        for process in self.alive():
            if process.bundle == directory:
                process.end(137)

    def end_orphans(self, cgroups: Collection[str]) -> int:
        found = [one for one in self.alive() if f"/fake/{one.container_id}" in cgroups]
        for process in found:
            process.end(137)
        return len(found)


class FakeSnapshots:
    """Satisfies ``protocol.Snapshots``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def _step(self, name: str) -> None:
        await self._host.passed(name)
        self._steps.step(name)

    async def prepare(self, key: str, parent: str) -> tuple[SnapshotMount, ...]:
        await self._step("prepare snapshot")
        if parent not in self._host.images:
            raise NotFoundError(f"snapshot {parent} not found")
        self._host.snapshots.add(key)
        return self._mounts(key)

    async def mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        if key not in self._host.snapshots:
            raise NotFoundError(f"snapshot {key} not found")
        return self._mounts(key)

    def _mounts(self, key: str) -> tuple[SnapshotMount, ...]:
        return (SnapshotMount("overlay", key, ()),)

    async def remove(self, key: str) -> None:
        await self._step("remove snapshot")
        self._host.snapshots.discard(key)

    async def usage_bytes(self, key: str) -> int:
        if key not in self._host.snapshots:
            raise NotFoundError(f"snapshot {key} not found")
        return 4096

    async def keys(self) -> Collection[str]:
        return tuple(self._host.snapshots)


class FakeMounter:
    """Satisfies ``runner.Mounter``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    def mount(self, mount: SnapshotMount, target: Path) -> None:
        self._steps.step("mount")
        if not target.is_dir():
            raise FileNotFoundError(2, "No such file or directory", str(target))
        self._host.mounts[target] = mount

    def unmount(self, target: Path) -> None:
        self._steps.step("unmount")
        self._host.mounts.pop(target, None)


class FakeNetworking:
    """Satisfies ``protocol.Networking``: one network, one address for each container."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def check(self, spec: ContainerSpec) -> tuple[NetworkSettings, tuple[str, ...]]:
        return NetworkSettings(), ()

    async def attach(self, container: Container) -> NetworkSettings:
        self._steps.step("attach network")
        if error := self._host.fails.get("attach network"):
            raise error
        taken = set(self._host.addresses.values())
        address = next(f"192.0.2.{last}" for last in range(2, 255) if f"192.0.2.{last}" not in taken)
        self._host.addresses.setdefault(container.id, address)
        return self._settings(container.id)

    def _settings(self, id: str) -> NetworkSettings:
        endpoint = EndpointState("bridge", "n" * 64, Endpoint("bridge"), id, ipv4_address=self._host.addresses[id])
        return NetworkSettings(id, f"/run/netns/{id}", (endpoint,))

    async def detach(self, container_id: str) -> None:
        self._steps.step("detach network")
        self._host.addresses.pop(container_id, None)

    async def files(self, container: Container, settings: NetworkSettings) -> Mapping[str, bytes]:
        if container.id not in self._host.addresses:
            raise ConflictError(f"container {container.id} is not connected")
        address = self._host.addresses[container.id]
        return {"hosts": f"{address} {container.name}\n".encode(), "hostname": b"h\n", "resolv.conf": b""}

    async def renamed(self, container_id: str, name: str) -> None:
        self._steps.step("rename in network")

    async def recover(self, running: Collection[Container]) -> Mapping[str, NetworkSettings]:
        keep = {container.id for container in running}
        self._host.addresses = {key: one for key, one in self._host.addresses.items() if key in keep}
        connected = {each.id: self._settings(each.id) for each in running if each.id in self._host.addresses}
        return {
            each.id: connected[each.id]
            for each in running
            if each.id in connected
            and not all(state in connected[each.id].endpoints for state in each.network.endpoints)
        }


class FakeVolumes:
    """Satisfies ``protocol.Volumes``."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def resolve(self, container_id: str, spec: ContainerSpec) -> tuple[MountPoint, ...]:
        wanted = [(mount.target, mount.source) for mount in spec.mounts if mount.type is MountType.VOLUME]
        wanted += [(target, "") for target in spec.anonymous_volumes]
        check_mounts(spec.mounts, spec.anonymous_volumes)
        points = []
        for target, named in wanted:
            self._steps.step("hold volume")
            name = named or f"anonymous-{container_id[:12]}-{target.strip('/')}"
            self._host.volumes.setdefault(name, not named)
            held = self._host.holds.setdefault(container_id, [])
            if name not in held:
                held.append(name)
            points.append(MountPoint(MountType.VOLUME, f"/volumes/{name}", target, name, "local"))
        return tuple(points)

    async def fill(self, container: Container, root: Path) -> None:
        if container.mounts:
            self._steps.step("fill volumes")

    async def release(self, container_id: str, *, anonymous: bool) -> None:
        self._steps.step("release volumes")
        names = self._host.holds.pop(container_id, [])
        for name in names:
            held = any(name in others for others in self._host.holds.values())
            if anonymous and self._host.volumes.get(name) and not held:
                del self._host.volumes[name]


class FakeBundles:
    """Satisfies ``protocol.Bundles``."""

    def cgroup_path(self, container_id: str, spec: ContainerSpec) -> str:
        return f"/fake/{container_id}"

    def check(self, spec: ContainerSpec) -> tuple[str, ...]:
        return ()

    def config(
        self, container: Container, root: Path, *, files: Path, init_path: str | None, joins: Joins = NO_JOINS
    ) -> dict[str, object]:
        return {"ociVersion": "1.1.0", "process": {"args": list(container.spec.process.args)}}

    def exec_process(self, container: Container, root: Path, request: ExecProcess) -> dict[str, object]:
        return {"args": list(request.process.args)}


class FakeConmon:
    """Starts processes of the host, as conmon with an OCI runtime does."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps

    async def create(self, paths: ContainerPaths, runtime: RuntimeCommand, stdio: Stdio, log: LogFile) -> int:
        self._steps.step("fork conmon")
        paths.exit_file.unlink(missing_ok=True)
        process = self._host.begin(paths.id, paths.bundle, paths.exit_file)
        return await self._created(process)

    async def exec_detached(
        self, container_id: str, paths: ExecPaths, runtime: RuntimeCommand, stdio: Stdio, spec: Path
    ) -> int:
        self._steps.step("fork conmon of exec")
        process = self._host.begin(container_id, paths.bundle, paths.exits / container_id)
        process.started = True
        self._host.first(container_id).below.append(process)
        return await self._created(process)

    async def exec_attached(
        self,
        container_id: str,
        paths: ExecPaths,
        runtime: RuntimeCommand,
        stdio: Stdio,
        spec: Path,
        *,
        released: bool = False,
    ) -> "FakePendingExec":
        self._steps.step("fork conmon of exec")
        process = self._host.begin(container_id, paths.bundle, paths.exits / container_id)
        process.waits_for = self._steps
        self._host.first(container_id).below.append(process)
        (self._host.paths.sockets / paths.token).symlink_to(process.bundle)
        self._steps.step("write conmon.pid")
        (process.bundle / "conmon.pid").write_text(str(process.pid))
        return FakePendingExec(process, self._steps)

    async def _created(self, process: FakeProcess) -> int:
        link = self._host.paths.sockets / process.bundle.name[:16]
        if not link.is_symlink():
            link.symlink_to(process.bundle)
        self._steps.step("write conmon.pid")
        (process.bundle / "conmon.pid").write_text(str(process.pid))
        self._steps.step("create in runtime")
        if error := self._host.fails.get("create in runtime"):
            process.end(127)
            raise error
        process.created = True
        self._host.make_cgroup(f"/fake/{process.container_id}")
        (process.bundle / "pidfile").write_text(str(process.pid))
        self._steps.step("report pid")
        return process.pid


class FakePendingExec:
    """An exec whose runtime waits for its document."""

    def __init__(self, process: FakeProcess, steps: Steps) -> None:
        self._process, self._steps = process, steps

    async def started(self) -> int:
        self._steps.step("run the process")
        self._process.started, self._process.waits_for = True, None
        (self._process.bundle / "pidfile").write_text(str(self._process.pid))
        self._steps.step("report pid")
        return self._process.pid

    async def settled(self) -> None:
        """Its pid is written down already."""

    async def exit_code(self) -> int | None:
        fd = os.dup(self._process.done)
        try:
            await ended(fd)
        finally:
            os.close(fd)
        return read_exit_code(self._process.exit_file.parent, self._process.container_id)

    def close(self) -> None:
        """Nothing is open."""


class FakeOciRuntime:
    """An OCI runtime of the host."""

    def __init__(self, host: Host, steps: Steps) -> None:
        self._host, self._steps = host, steps
        self.name = "fake"
        self.command = RuntimeCommand(Path("/fake"), Path("/fake"))

    async def start(self, id: str, bundle: Path) -> None:
        self._steps.step("start in runtime")
        process = self._host.first(id)
        if not process.created:
            raise StartError(f"container {id} does not exist")
        process.started = True
        await self._host.passed("start in runtime")  # the process runs while the runtime still has something to say

    async def delete(self, id: str, bundle: Path) -> None:
        self._steps.step("delete in runtime")
        self._host.frozen.discard(id)
        for process in self._host.alive(id):
            # conmon writes the exit down in its own time, after the runtime has come back.
            asyncio.get_running_loop().call_later(0.002, process.end, 137)

    async def pause(self, id: str, bundle: Path) -> None:
        await self._host.passed("freeze")
        self._steps.step("freeze")
        self._host.frozen.add(id)

    async def resume(self, id: str, bundle: Path) -> None:
        self._steps.step("thaw")
        self._host.thaw(id)

    async def update(self, id: str, bundle: Path, resources: Mapping[str, object]) -> None:
        self._steps.step("set limits")
        self._host.limits[id] = resources
