"""Prepare an exec up to where only its document is missing: conmon listens, we are connected, the runtime waits.

That takes some ten milliseconds, most of them the runtime's, so it begins when the exec is made: as a rule its client
comes back at once to start it. One that does not come within ``HELD_S`` loses what was prepared, and nothing else.

The runtime is told to read what it is to run from ``/proc/<our pid>/fd/<n>``, the reading end of a pipe, into which it
is written when the exec is started. It waits there with everything done that it does before it knows the process. If
runtimed is killed before, it finds the end of the pipe, or no such file, and runs nothing.

A number is another pipe's as soon as it is free. So a pipe is closed when its runtime has read it, or has ended: one
that came late would run in its container what is meant for another one.
"""

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.conmon.conmon import Conmon, PendingExec, Stdio
from runtimed.conmon.process import kill_at_work_on
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.links import Find, present_variables
from runtimed.containers.memory_store import Entry
from runtimed.containers.paths import ExecPaths, Paths
from runtimed.lifecycle.runner import Runner
from runtimed.protocol import Bundles, ExecProcess
from sampan.errors import (
    CommandNotExecutableError,
    ConflictError,
    InvalidArgumentError,
    SampanError,
    StartError,
    UnavailableError,
)
from sampan.resource.container import Container
from sampan.resource.exec import ExecSpec
from sampan.sys.trees import remove_tree


class ProcessPipe:
    """One document for one reader. Close it when the reader has had it, or is no more: not before."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # As long as it is open here, a reader that comes late still finds the document.
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._read}")

    async def send(self, document: bytes) -> None:
        """Write the document and its end: at once if the pipe holds all of it, else as the runtime reads it."""
        left = memoryview(document)
        while left:
            try:
                left = left[os.write(self._write, left) :]
            except BlockingIOError:
                await self._writable()
        os.close(self._write)
        self._write = -1

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._write, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._write)

    def close(self) -> None:
        """Let go of both ends; safe to repeat."""
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1


# How long a conmon waits for the word. A client takes a few milliseconds; whoever takes longer is not in a hurry.
HELD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An exec whose runtime waits for its document."""

    bundle: Path  # what its conmon and runtime work on
    document: bytes
    pipe: ProcessPipe
    pending: PendingExec
    connection: StdioConnection

    async def start(self) -> int:
        """Let it run; return the pid. Closes everything if that fails.

        Raises:
            StartError: with the runtime's own message.
        """
        sending = asyncio.create_task(self.pipe.send(self.document), name="document of an exec")
        try:
            try:
                pid = await self.pending.started()
            finally:
                sending.cancel()  # a runtime that failed has not read it
                await asyncio.wait({sending})
        except BaseException as error:
            if isinstance(error, SampanError):
                await kill_at_work_on(self.bundle)  # a runtime outlives a conmon that was killed
            self.close()
            raise
        self.pipe.close()
        return pid

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()
        self.pending.close()
        self.pipe.close()


class Preparer:
    """Prepares execs, and takes back what was prepared."""

    def __init__(self, conmon: Conmon, runner: Runner, bundles: Bundles, paths: Paths, find: Find) -> None:
        self._conmon = conmon
        self._runner = runner
        self._bundles = bundles
        self._paths = paths
        self._find = find

    async def prepare(self, entry: Entry, id: str, spec: ExecSpec) -> Prepared:
        """Start its conmon, put its document together, connect to its streams, let its runtime begin.

        When this fails, nothing is left of it.

        Raises:
            StartError: with Docker's words, or conmon's.
        """
        paths = self._paths.exec(id)
        paths.exits.mkdir(mode=0o700, parents=True, exist_ok=True)
        runtime = self._runner.command(entry.container)
        pipe = ProcessPipe()
        starting = asyncio.create_task(
            self._conmon.exec_attached(entry.id, paths, runtime, stdio(spec), pipe.path, released=True),
            name=f"conmon of {id}",
        )
        try:
            document = await self.document(entry.container, spec)  # while conmon starts
            pending = await asyncio.shield(starting)
            return Prepared(paths.bundle, document, pipe, pending, StdioConnection.connect(paths.attach_socket))
        except BaseException as error:
            try:
                # Shielded, and waited for: a conmon that nobody has heard of yet goes on making files.
                await asyncio.wait({starting})
                if starting.exception() is None:
                    await self._give_up(starting.result())
                await self._clear(paths)
            finally:
                pipe.close()
            if isinstance(error, ConflictError):
                raise StartError(f"conmon did not stay: {error}") from error
            raise

    async def check_user(self, container: Container, spec: ExecSpec) -> None:
        """Look its user and groups up. Its start does so again: the container may have written its files meanwhile.

        Raises:
            InvalidArgumentError: the container does not know them.
            ConflictError: it has ended.
        """
        try:
            await self.document(container, spec)
        except StartError as error:
            raise InvalidArgumentError(str(error)) from error

    async def document(self, container: Container, spec: ExecSpec) -> bytes:
        """Return what the runtime is to run.

        Raises:
            CommandNotExecutableError: nothing has been asked of the runtime yet, and Docker counts this as 126.
        """

        linked = present_variables(container, self._find)

        def look_up() -> bytes:
            root = Path(f"/proc/{container.state.pid}/root")
            request = ExecProcess(spec.process(), spec.privileged, linked)
            return json.dumps(self._bundles.exec_process(container, root, request)).encode()

        try:
            return await asyncio.to_thread(look_up)
        except StartError as error:
            raise CommandNotExecutableError(str(error)) from error

    async def drop(self, id: str, preparing: "asyncio.Task[Prepared]") -> None:
        """Take back what was prepared, or is being prepared."""
        preparing.cancel()
        await asyncio.wait({preparing})
        if not preparing.cancelled() and preparing.exception() is None:
            try:
                await self._give_up(preparing.result().pending)
                await self._clear(self._paths.exec(id))
            finally:
                preparing.result().close()

    async def _give_up(self, pending: PendingExec) -> None:
        try:
            with contextlib.suppress(UnavailableError):  # it hangs: what is left of it goes with the container
                await pending.settled()
        finally:
            pending.close()

    async def _clear(self, paths: ExecPaths) -> None:
        # Without us the runtime would find no document, and conmon end in its own time. Both: a runtime that outlives
        # its conmon goes on making files, in the directory that a later start of the same exec works in.
        await kill_at_work_on(paths.bundle)
        await asyncio.to_thread(remove_files, paths)


def stdio(spec: ExecSpec) -> Stdio:
    """Return how conmon is to keep the exec's streams."""
    return Stdio(spec.tty, spec.attach_stdin, spec.tty)


def remove_files(paths: ExecPaths) -> None:
    """Remove what an exec that does not run has on disk; blocks."""
    remove_tree(paths.bundle)
    (paths.paths.sockets / paths.token).unlink(missing_ok=True)
