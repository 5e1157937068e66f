"""Further processes in running containers. Each has a conmon of its own, so it goes on when runtimed does not."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Collection
from dataclasses import replace
from typing import Final

from runtimed.conmon.conmon import Conmon, PendingExec
from runtimed.conmon.process import ended, finish_kills, kill_with_offspring, session_of, until_none_works_on
from runtimed.conmon.running import find_conmon, read_exit_code, read_pid, resize
from runtimed.conmon.terminals import sized_before_it_runs
from runtimed.containers.memory_store import Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.containers.store import ContainerStore
from runtimed.events import UNSEEN_EXIT, Events
from runtimed.execs.memory_store import ExecMemory, Running
from runtimed.execs.prepared import HELD_S, Prepared, Preparer, remove_files, stdio
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.runner import Runner
from runtimed.oci.errors import exec_error, exit_code
from runtimed.protocol import Bundles
from runtimed.streams.detach import DetachScanner, parse_detach_keys
from runtimed.streams.sessions import Session
from sampan import limits, tracing
from sampan.errors import (
    ConflictError,
    InvalidArgumentError,
    StartError,
    UnavailableError,
)
from sampan.log import log
from sampan.resource.container import Status
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import Frame, HandOver, Input, Stream
from sampan.service.set_aside import why

# An exec that is being started, and what is done when it runs.
Started = tuple[Running, "asyncio.Future[None]"]


class Execs:
    """Makes, starts and remembers execs."""

    def __init__(
        self,
        memory: MemoryStore,
        store: ContainerStore,
        runner: Runner,
        bundles: Bundles,
        conmon: Conmon,
        events: Events,
        background: Background,
        paths: Paths,
        stopping: asyncio.Event,
    ) -> None:
        self._memory = memory
        self._store = store
        self._runner = runner
        self._conmon = conmon
        self._preparer = Preparer(conmon, runner, bundles, paths, lambda name: memory.find(name).container)
        self._events = events
        self._background = background
        self._paths = paths
        self._stopping = stopping
        self.known: Final = ExecMemory(memory, store, paths)

    async def recover(self) -> None:
        """Find out what became of the execs of an earlier process, and watch those that run."""
        records = await self._store.execs()
        await finish_kills(self._paths.execs)
        await asyncio.to_thread(self._remove_strays, {record.id for record in records if record.running})
        for record in records:
            try:
                await self._take_up(record)
            except Exception as error:  # noqa: BLE001 - one exec must not keep the rest from being served
                log.error("exec cannot be recovered", id=record.id, container=record.container_id, reason=why(error))

    async def _take_up(self, record: Exec) -> None:
        if record.running:
            # What conmon has been told by the runtime: nothing is recorded between an exec's start and its end.
            pid_file = self._paths.exec(record.id).bundle / "pidfile"
            record = replace(record, pid=await asyncio.to_thread(read_pid, pid_file))
        entry = self._memory.by_id(record.container_id)  # containers are being removed meanwhile
        if entry is None:
            return
        running = Running(record, entry)
        self.known.add(running)
        if record.exit_code is not None:
            running.done.set()
        if record.running:
            self._background.watch(self._watch_found(running), f"exec {record.id}")

    def _remove_strays(self, known: Collection[str]) -> None:
        """Remove what health probes, removed containers and execs that were prepared and never started left."""
        for directory in self._paths.execs.iterdir():
            if directory.name not in known:
                try:
                    remove_files(self._paths.exec(directory.name))
                except OSError as error:  # it is in nobody's way, and the next start tries again
                    log.warning("files of an exec stay", path=error.filename, error=error.strerror)

    async def create(self, entry: Entry, spec: ExecSpec) -> Exec:
        """Record a process to run in the container.

        Raises:
            ConflictError: the container does not run, or is paused; Docker's words.
            InvalidArgumentError: no command, a user whom the container does not know, detach keys that are none, or
                more than ``sampan.limits`` has room for.
            NotFoundError: the container is removed meanwhile.
        """
        await entry.settled()
        _check_runs(entry)
        if not spec.args or not spec.args[0]:
            raise InvalidArgumentError("No exec command specified")
        limits.check_process(spec.args, spec.env, "exec")
        limits.check_execution((*spec.args, *spec.env), spec.working_dir, spec.user, (), "exec")
        limits.check_record(spec, "exec")
        parse_detach_keys(spec.detach_keys)
        if spec.user:
            await self._preparer.check_user(entry.container, spec)
        spec = replace(spec, user=spec.user or entry.container.spec.process.user)
        record = Exec(secrets.token_hex(32), entry.id, spec)
        running = Running(record, entry)
        # From here on it goes with its container, whatever is waited for.
        self.known.add(running)
        try:
            await self.known.forget_old(entry.id)
            if not spec.tty and (spec.attach_stdin or spec.attach_stdout or spec.attach_stderr):
                # First: it takes longest, and without a record it is a stray like any other.
                self._prepare_ahead(running)
            await self.known.record(running)
        except BaseException:
            self.known.drop(record.id)
            raise
        self._events.exec_created(entry.container, record.id, spec.args)
        return record

    def _prepare_ahead(self, running: Running) -> None:
        record = running.exec
        running.ahead_in = running.entry.container.state.started_at
        running.ahead = asyncio.create_task(
            self._preparer.prepare(running.entry, record.id, record.spec), name=f"prepare exec {record.id}"
        )
        self._background.watch(self._hold(running), f"hold exec {record.id}")

    async def _hold(self, running: Running) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HELD_S):
                    await running.begun.wait()
        finally:
            async with running.preparing:
                if not running.begun.is_set():
                    await self._not_ahead(running)

    def resize(self, id: str, size: ConsoleSize) -> None:
        """Set the size of its terminal; before it starts, the size that it starts with. Raises NotFoundError."""
        self._resize(self.known.find(id), size)

    def _resize(self, running: Running, size: ConsoleSize) -> None:
        running.console_size = size
        if running.exec.running:
            with contextlib.suppress(OSError):  # it has just ended
                resize(self._paths.exec(running.exec.id).control, size.height, size.width)

    async def kill(self, id: str) -> None:
        """Kill its process and all that have come of it; return when they have ended. Raises NotFoundError."""
        running = self.known.find(id)
        if running.exec.running and running.exec.pid:
            session = running.session or session_of(running.exec.pid)
            await kill_with_offspring(running.exec.pid, session, running.entry.container.cgroup_path)

    def _begin(self, id: str, size: ConsoleSize | None) -> Running:
        running = self.known.find(id)
        if running.exec.started:
            done = "is already running" if running.exec.running else "has already run"
            raise ConflictError(f"Error: Exec command {running.exec.id} {done}")
        _check_runs(running.entry)
        spec = running.exec.spec
        running.console_size = size or running.console_size or spec.console_size
        # In this step already, so that a second start finds it.
        running.exec = replace(running.exec, spec=replace(spec, console_size=running.console_size), started=True)
        running.begun.set()
        return running

    def start_detached(self, id: str, size: ConsoleSize | None) -> Started:
        """Like ``start``, without a client."""
        running = self._begin(id, size)
        return running, self._background.begin(self._start_detached(running), f"exec {id}")

    async def _start_detached(self, running: Running) -> None:
        record, paths, container = running.exec, self._paths.exec(running.exec.id), running.entry.container
        await self._store.set_exec(record)
        self._events.exec_started(container, record.id, record.spec.args)
        try:
            async with running.preparing:
                await self._not_ahead(running)
            paths.exits.mkdir(mode=0o700, parents=True, exist_ok=True)
            document = paths.bundle / "process.json"
            content = await self._preparer.document(container, record.spec)
            await asyncio.to_thread(document.write_bytes, content)
            with tracing.span("exec: start"):
                async with self._sized(running):
                    pid = await self._conmon.exec_detached(
                        container.id, paths, self._runner.command(container), stdio(record.spec), document
                    )
        except StartError as error:
            raise await self._failed(running, error) from error
        self._started(running, pid)
        self._background.watch(
            self._watch(running, find_conmon(paths.conmon_pid, running.entry.id)), f"exec {running.exec.id}"
        )

    def _sized(self, running: Running) -> contextlib.AbstractAsyncContextManager[None]:
        spec, paths = running.exec.spec, self._paths.exec(running.exec.id)
        size = spec.console_size if spec.tty else None
        return sized_before_it_runs(running.entry.container.state.pid, paths.bundle, size)

    async def _not_ahead(self, running: Running) -> None:
        preparing, running.ahead = running.ahead, None
        if preparing is not None:
            await self._preparer.drop(running.exec.id, preparing)

    async def _prepared(self, running: Running, created: ExecSpec) -> Prepared:
        """Return what was prepared when it was made, if that is still there and right, else prepare it now."""
        # The runtime has looked the container up: in another run of it, that is another process.
        same_run = running.ahead_in == running.entry.container.state.started_at
        if running.ahead is not None and running.exec.spec == created and same_run:
            preparing, running.ahead = running.ahead, None
            return await preparing
        await self._not_ahead(running)
        return await self._preparer.prepare(running.entry, running.exec.id, running.exec.spec)

    def start(self, id: str, size: ConsoleSize | None) -> Started:
        """Begin to start it with a client attached; when that is done, give it to ``converse``.

        Raises:
            ConflictError: it was started before, or its container does not run.
            StartError: not at once, but when it is waited for; Docker's words.
        """
        created = self.known.find(id).exec.spec
        running = self._begin(id, size)
        return running, self._background.begin(self._start(running, created), f"exec {id}")

    async def _start(self, running: Running, created: ExecSpec) -> None:
        await self._store.set_exec(running.exec)
        self._events.exec_started(running.entry.container, running.exec.id, running.exec.spec.args)
        try:
            with tracing.span("exec: prepare"):
                async with running.preparing:
                    prepared = await self._prepared(running, created)
            running.connection = prepared.connection
            with tracing.span("exec: start"):
                async with self._sized(running):
                    pid = await prepared.start()
        except StartError as error:
            raise await self._failed(running, error) from error
        self._started(running, pid)
        if running.console_size is not None and running.exec.spec.tty:
            self._resize(running, running.console_size)  # it may have been changed while it was being started
        self._background.watch(self._finish(running, prepared.pending), f"exec {running.exec.id}")

    async def converse(
        self, running: Running, input: Input, hand_over: HandOver | None = None
    ) -> AsyncGenerator[list[Frame], None]:
        """Yield output until the exec has ended, its exit code recorded, or the client detached (see ``detached``).

        Raises:
            UnavailableError: the service stops; the exec does not.
        """
        connection, spec = running.connection, running.exec.spec
        assert connection is not None
        keys = parse_detach_keys(spec.detach_keys)
        session = Session(
            connection,
            stdin=spec.attach_stdin,
            streams=frozenset((Stream.STDOUT, Stream.STDERR)),
            scanner=DetachScanner(keys) if spec.tty and spec.attach_stdin else None,
            resize=lambda size: self._resize(running, size),
            hand_over=hand_over,
        )
        output = session.run(input, self._stopping)
        try:
            async for frames in output:
                yield frames
        finally:
            await output.aclose()  # type: ignore[attr-defined]  # it is a generator
            connection.close()
        running.detached = session.detached
        if session.detached:
            self._events.container(running.entry.container, "exec_detach", execID=running.exec.id)
        elif self._stopping.is_set():
            raise UnavailableError("runtimed is stopping; the process goes on")
        else:
            await running.done.wait()

    def _started(self, running: Running, pid: int) -> None:
        running.exec = replace(running.exec, pid=pid)
        running.session = session_of(pid)

    async def _failed(self, running: Running, error: StartError) -> StartError:
        """Record that it could not be started; return the error in Docker's words."""
        if running.connection is not None:
            running.connection.close()
        if type(error) is StartError and not str(error).startswith("OCI runtime"):
            error = exec_error(str(error), running.exec.spec.args[0])
        await self._record_exit(running, exit_code(error))  # of which no event tells: nothing has died
        return error

    async def _finish(self, running: Running, pending: PendingExec) -> None:
        try:
            code = await pending.exit_code()
        finally:
            pending.close()
        await self._background.finish(self._died(running, code), f"exit of exec {running.exec.id}")

    async def _watch_found(self, running: Running) -> None:
        """Watch one that another process has begun; its conmon may not yet have written down its pid."""
        paths = self._paths.exec(running.exec.id)
        pidfd = find_conmon(paths.conmon_pid, running.exec.container_id)
        if pidfd < 0:
            await until_none_works_on(paths.bundle)
            # Its first process may have ended in the middle of the search; it writes the pid first.
            pidfd = find_conmon(paths.conmon_pid, running.exec.container_id)
        await self._watch(running, pidfd)

    async def _watch(self, running: Running, pidfd: int) -> None:
        if pidfd >= 0:
            try:
                await ended(pidfd)
            finally:
                os.close(pidfd)
        await self._died(running, read_exit_code(self._paths.exec(running.exec.id).exits, running.exec.container_id))

    async def _died(self, running: Running, code: int | None) -> None:
        code = UNSEEN_EXIT if code is None else code
        if self._memory.by_id(running.exec.container_id) is not None:
            self._events.exec_died(running.entry.container, running.exec.id, code)
        await self._record_exit(running, code)

    async def _record_exit(self, running: Running, code: int) -> None:
        running.exec = replace(running.exec, pid=0, exit_code=code)
        # conmon has written the code down, and its file goes after our own record: nobody needs to wait for that.
        running.done.set()
        await self._store.set_exec(running.exec)
        await asyncio.to_thread(remove_files, self._paths.exec(running.exec.id))


def _check_runs(entry: Entry) -> None:
    if entry.status is Status.PAUSED:
        raise ConflictError(f"Container {entry.container.name} is paused, unpause the container before exec")
    if entry.status is Status.RESTARTING:
        raise ConflictError(f"Container {entry.id} is restarting, wait until the container is running")
    if entry.status is not Status.RUNNING:
        raise ConflictError(f"container {entry.id} is not running")
