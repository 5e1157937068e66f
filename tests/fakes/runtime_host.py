"""A machine for runtimed's cores, without root: its processes, mounts, snapshots, networks and volumes.

``Host`` is what outlives an engine. One engine's view of it are the classes of ``runtime_parts`` and ``oci_runtime``.
Each thing that they do to the machine is a step, at which the engine can be killed.
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
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.paths import Paths
from runtimed.host.facts import CgroupTree
from runtimed.protocol import SnapshotMount
from sampan.errors import ConflictError
from sampan.resource.container import Container
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
