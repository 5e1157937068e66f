"""The warm parent: has imported what commands need, and forks a process for each client that comes, or before it comes.

It is itself forked from the supervisor when somebody comes, and ends when nobody has come for a while, so that an
engine at rest does not pay for it. It makes no object of gRPC's: a fork would not survive one.
"""

import gc
import importlib
import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sampan_cli.warm.request import KILLED
from sampan_cli.warm.worker import Warm, work, work_when_told

IDLE_S: Final = 60.0

# More at a time are served by their own processes, as are those that find no engine.
MAX_WORKERS: Final = 256

# Until a process is forked ahead of need while others still work: not in the midst of many that begin at once.
_QUIET_S: Final = 0.1

# What most commands import, beyond what the supervisor has imported.
MODULES: Final = (
    "asyncio",
    "grpc.experimental",
    "google.protobuf.any_pb2",
    "sampan_cli.app.app",
    "sampan_cli.commands.container.exec",
    "sampan_cli.commands.container.inspect",
    "sampan_cli.commands.container.lifecycle",
    "sampan_cli.commands.container.logs",
    "sampan_cli.commands.container.ps",
    "sampan_cli.commands.container.remove",
    "sampan_cli.commands.container.run",
    "sampan_cli.commands.container.creation",
    "sampan_cli.commands.container.start",
    "sampan_cli.commands.image.ls",
    "sampan_cli.commands.system.inspect",
    "sampan_cli.options.spec",
    "sampan_cli.output.table",
    "sampan_cli.streams.attached",
    "sampan_cli.streams.console",
    "sampan_cli.supervisor.roots",
    "sampan.client.runtime.containers",
    "sampan.client.convert.disk",
    "sampan.client.convert.oci",
    "sampan.client.runtime.execs",
    "sampan.client.storage.images",
    "sampan.client.storage.leases",
    "sampan.client.runtime.networks",
    "sampan.client.storage.snapshots",
    "sampan.client.runtime.volumes",
    "sampan.docker.views.container_view",
    "sampan.docker.durations",
    "sampan.docker.filters",
    "sampan.docker.times",
    "sampan.engine.create",
    "sampan.engine.engine",
    "sampan.engine.listing",
    "sampan.wire.status",
)


def load() -> None:
    """Import what most commands need."""
    for module in MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what no command touches stays the same memory in all of them


def run(arguments: Sequence[str]) -> None:
    """Run a command line in this process."""
    from sampan_cli.app.app import app
    from sampan_cli.app.session import new_session

    app(list(arguments), prog_name="sampan", obj=new_session())


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pidfd: int
    connection: socket.socket


@dataclass(frozen=True, slots=True)
class _Spare:
    """A process that was forked ahead of need, and waits for a connection."""

    pid: int
    pidfd: int
    line: socket.socket  # its end is the spare's


class WarmParent:
    """Forks workers, one of them ahead of need. Single-threaded: a fork takes along no lock that somebody holds."""

    def __init__(self, listener: socket.socket, warm: Warm, idle_s: float = IDLE_S) -> None:
        self._listener = listener
        self._warm = warm
        self._idle_s = idle_s
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._workers: dict[int, _Worker] = {}  # by pidfd
        self._spare: _Spare | None = None

    def serve(self) -> None:
        """Return when nobody has come for some time and nothing runs any more."""
        last_s = time.monotonic()
        while True:
            ready = {fd for fd, _ in self._poll.poll(1000 * (self._idle_s if self._spare else _QUIET_S))}
            now_s = time.monotonic()
            # Who has ended comes first: what is made for a client may get the number of a descriptor that was closed.
            for fd in ready - {self._listener.fileno()}:
                if fd in self._workers:
                    self._bury(self._workers[fd])
                elif self._spare is not None:
                    self._drop_spare(self._spare)
            if self._listener.fileno() in ready and self._take():
                last_s = now_s
            if not self._workers and now_s - last_s >= self._idle_s:
                if self._spare is not None:
                    self._drop_spare(self._spare)
                return
            if self._spare is None and not (ready and self._workers):
                self._fork_spare()

    def _take(self) -> bool:
        """Have a worker serve who has connected, if there is somebody."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor is left
            return False
        if len(self._workers) >= MAX_WORKERS:
            connection.close()
            return True
        worker = self._give_to_spare(connection) or self._fork(connection)
        if worker is None:  # the client does without
            connection.close()
            return True
        self._workers[worker.pidfd] = worker
        return True

    def _fork(self, connection: socket.socket) -> _Worker | None:
        try:
            pid = os.fork()
        except OSError:
            return None
        if pid == 0:
            work(connection, self._warm)
        worker = _Worker(pid, os.pidfd_open(pid), connection)
        self._poll.register(worker.pidfd, select.POLLIN)
        return worker

    def _give_to_spare(self, connection: socket.socket) -> _Worker | None:
        """Have the spare be the worker; None if there is none that lives."""
        spare = self._spare
        if spare is None:
            return None
        try:
            socket.send_fds(spare.line, [b"\0"], [connection.fileno()])
        except OSError:
            self._drop_spare(spare)
            return None
        spare.line.close()
        self._spare = None
        return _Worker(spare.pid, spare.pidfd, connection)

    def _fork_spare(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                return
            if pid == 0:
                work_when_told(theirs, self._warm)
        self._spare = _Spare(pid, os.pidfd_open(pid), ours)
        self._poll.register(self._spare.pidfd, select.POLLIN)

    def _drop_spare(self, spare: _Spare) -> None:
        """Have the spare end, or note that it has."""
        self._poll.unregister(spare.pidfd)
        spare.line.close()
        os.waitpid(spare.pid, 0)
        os.close(spare.pidfd)
        self._spare = None

    def _bury(self, ended: _Worker) -> None:
        """Tell the client of a worker that was killed. One that has ended by itself has told already."""
        self._poll.unregister(ended.pidfd)
        del self._workers[ended.pidfd]
        os.close(ended.pidfd)
        _, status = os.waitpid(ended.pid, 0)
        with ended.connection, suppress(OSError):
            if os.WIFSIGNALED(status):
                ended.connection.send(KILLED + bytes([os.WTERMSIG(status)]), socket.MSG_DONTWAIT)
