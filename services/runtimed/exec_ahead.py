"""Bring an exec to where only the word is missing: conmon listens, we are connected, the document is written.

That takes some milliseconds, most of them conmon's, so it begins when the exec is made: as a rule its client comes back
at once to start it. One that does not come within ``HELD_S`` loses what was prepared, and nothing else.

conmon takes the end of its start pipe for the word. So that it runs nothing if runtimed is killed before the word was
given, the document gets its name, the one that conmon hands to the runtime, only when the exec is started.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.conmon import Conmon, PendingExec, Stdio
from runtimed.execmodel import ExecSpec
from runtimed.model import Container
from runtimed.paths import ExecPaths, Paths
from runtimed.process import ended
from runtimed.protocol import Bundles, ExecProcess
from runtimed.registry import Entry
from runtimed.runner import Runner
from runtimed.running_conmon import find_conmon
from runtimed.stdio import StdioConnection
from sampan.errors import CommandNotExecutableError, ConflictError, StartError

# How long a conmon waits for the word. A client takes a few milliseconds; whoever takes longer is not in a hurry.
HELD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An exec that runs as soon as ``pending`` is told to, after ``allow``."""

    paths: ExecPaths
    pending: PendingExec
    connection: StdioConnection

    def allow(self) -> None:
        """Put the document where the runtime looks for it."""
        _draft(self.paths).rename(document(self.paths))

    def close(self) -> None:
        """Let go of it, on failure."""
        self.connection.close()
        self.pending.close()


class Preparer:
    """Prepares execs, and takes back what was prepared."""

    def __init__(self, conmon: Conmon, runner: Runner, bundles: Bundles, paths: Paths) -> None:
        self._conmon = conmon
        self._runner = runner
        self._bundles = bundles
        self._paths = paths

    async def prepare(self, entry: Entry, id: str, spec: ExecSpec) -> Prepared:
        """Start its conmon, write its document, connect to its streams. When this fails, nothing is left of it.

        Raises:
            StartError: with Docker's words, or conmon's.
        """
        paths = self._paths.exec(id)
        paths.exits.mkdir(mode=0o711, parents=True, exist_ok=True)
        runtime = self._runner.runtime(entry.container).command
        starting = asyncio.create_task(
            self._conmon.exec_attached(entry.id, paths, runtime, stdio(spec), document(paths)), name=f"conmon of {id}"
        )
        try:
            await self.write(entry.container, spec, _draft(paths))  # while conmon starts
            pending = await starting
            return Prepared(paths, pending, StdioConnection.connect(paths.attach_socket))
        except BaseException as error:
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                starting.result().close()
            await self._clear(entry.id, paths)
            if isinstance(error, ConflictError):
                raise StartError(f"conmon did not stay: {error}") from error
            raise

    async def write(self, container: Container, spec: ExecSpec, target: Path) -> None:
        """Write what the runtime is to run.

        Raises:
            CommandNotExecutableError: nothing has been asked of the runtime yet, and Docker counts this as 126.
        """

        def write() -> None:
            root = Path(f"/proc/{container.state.pid}/root")
            request = ExecProcess(spec.process(), spec.privileged)
            target.write_text(json.dumps(self._bundles.exec_process(container, root, request)))

        try:
            await asyncio.to_thread(write)
        except StartError as error:
            raise CommandNotExecutableError(str(error)) from error

    async def drop(self, entry: Entry, id: str, preparing: "asyncio.Task[Prepared]") -> None:
        """Take back what was prepared, or is being prepared."""
        preparing.cancel()
        await asyncio.wait({preparing})
        if not preparing.cancelled() and preparing.exception() is None:
            preparing.result().close()
            await self._clear(entry.id, self._paths.exec(id))

    async def _clear(self, container_id: str, paths: ExecPaths) -> None:
        # Without us conmon would take the closed pipe for the word, find no document, and end in its own time.
        pidfd = find_conmon(paths.conmon_pid, container_id)
        if pidfd >= 0:
            try:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                await ended(pidfd)
            finally:
                os.close(pidfd)
        await asyncio.to_thread(remove_files, paths)


def document(paths: ExecPaths) -> Path:
    """Return where the runtime finds what it is to run."""
    return paths.bundle / "process.json"


def stdio(spec: ExecSpec) -> Stdio:
    """Return how conmon is to keep the exec's streams."""
    return Stdio(spec.tty, spec.attach_stdin, spec.tty)


def remove_files(paths: ExecPaths) -> None:
    """Remove what an exec that does not run has on disk; blocks."""
    shutil.rmtree(paths.bundle, ignore_errors=True)
    (paths.paths.sockets / paths.token).unlink(missing_ok=True)


def _draft(paths: ExecPaths) -> Path:
    return paths.bundle / "process.json.draft"
