"""The warm parent: has imported what commands need, and forks a process for each client that comes.

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
from sampan_cli.warm.worker import Warm, work

IDLE_S: Final = 60.0

# More at a time are served by their own processes, as are those that find no engine.
MAX_WORKERS: Final = 256

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
    "sampan.docker.container_view",
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


class WarmParent:
    """Forks workers. Single-threaded: a fork takes along no lock that somebody holds."""

    def __init__(self, listener: socket.socket, warm: Warm, idle_s: float = IDLE_S) -> None:
        self._listener = listener
        self._warm = warm
        self._idle_s = idle_s
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._workers: dict[int, _Worker] = {}  # by pidfd

    def serve(self) -> None:
        """Return when nobody has come for some time and nothing runs any more."""
        last_s = time.monotonic()
        while True:
            ready = [fd for fd, _ in self._poll.poll(self._idle_s * 1000)]
            now_s = time.monotonic()
            for fd in ready:
                if fd in self._workers:
                    self._bury(self._workers[fd])
                elif self._take():
                    last_s = now_s
            if not self._workers and now_s - last_s >= self._idle_s:
                return

    def _take(self) -> bool:
        """Fork a worker for who has connected, if there is somebody."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor is left
            return False
        if len(self._workers) >= MAX_WORKERS:
            connection.close()
            return True
        try:
            pid = os.fork()
        except OSError:  # the client does without
            connection.close()
            return True
        if pid == 0:
            work(connection, self._warm)
        worker = _Worker(pid, os.pidfd_open(pid), connection)
        self._workers[worker.pidfd] = worker
        self._poll.register(worker.pidfd, select.POLLIN)
        return True

    def _bury(self, ended: _Worker) -> None:
        """Tell the client of a worker that was killed. One that has ended by itself has told already."""
        self._poll.unregister(ended.pidfd)
        del self._workers[ended.pidfd]
        os.close(ended.pidfd)
        _, status = os.waitpid(ended.pid, 0)
        with ended.connection, suppress(OSError):
            if os.WIFSIGNALED(status):
                ended.connection.send(KILLED + bytes([os.WTERMSIG(status)]), socket.MSG_DONTWAIT)
