"""One service as a child process."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.layout import Layout

# What every service runs with.
_ENVIRONMENT: Final = {
    # glibc gives every thread an arena of its own and never returns it; two are enough and save tens of megabytes.
    "MALLOC_ARENA_MAX": "2",
    # gRPC's fork handlers cost every fork, and a service starts programs, it never forks itself.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "PYTHONUNBUFFERED": "1",
    # Neither root's own packages nor the directory in which someone typed `sampan up` are part of the engine.
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
}

# Python ignores these and exec passes that on; a container must not inherit it.
_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Child:
    """A running service. ``reap`` must be called once when ``pidfd`` is readable."""

    name: str
    pid: int
    pidfd: int

    def signal(self, number: int) -> None:
        """Send a signal. The child is not reaped yet, so that its number is still its own."""
        signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Return the exit code, negative for a signal, and forget the child."""
        os.close(self.pidfd)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def spawn(name: str, layout: Layout, notify: Path, log: Path, environ: Mapping[str, str]) -> Child:
    """Start ``python -m <name>`` on the engine's roots.

    It gets a session of its own, so that Ctrl-C reaches the supervisor alone, which then stops the services in order.
    It writes to ``log`` directly: were there a pipe to the supervisor, a service could not outlive it.
    """
    roots = ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", name, *roots],
            {**environ, **_ENVIRONMENT, "NOTIFY_SOCKET": str(notify)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, fd, 1),
                (os.POSIX_SPAWN_DUP2, fd, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    finally:
        os.close(fd)
    return Child(name, pid, os.pidfd_open(pid))
