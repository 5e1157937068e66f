"""A container's streams for its clients: attach, logs, the terminal's size."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtimed.conmon.running import reopen, resize
from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.memory_store import UP, Entry
from runtimed.containers.paths import Paths
from runtimed.events import Events
from runtimed.lifecycle.background import Background, done_before
from runtimed.logs.plans import is_readable, log_files
from runtimed.logs.reader import WRITTEN, read_log
from runtimed.streams.detach import DetachScanner, parse_detach_keys
from runtimed.streams.sessions import Session
from sampan.docker.options.logs import CRI
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError, UnimplementedError
from sampan.resource.container import Status
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import AttachOptions, Frame, Input, LogEntry, LogQuery, Stream
from sampan.sys.inotify import FileWatches

# For conmon to open a log anew; it takes a millisecond.
_REOPENED_S: Final = 5.0


@dataclass(slots=True)
class Attachment:
    """A client that is attached, or will be when the container starts; ``detached`` is known at the end."""

    entry: Entry
    options: AttachOptions
    scanner: DetachScanner | None
    connection: "asyncio.Future[StdioConnection | None]"
    detached: bool = field(default=False)

    @property
    def tty(self) -> bool:
        """Whether output is that of a terminal."""
        return self.entry.container.spec.process.tty


class Streams:
    """Connects clients with what conmon keeps of a container."""

    def __init__(
        self,
        paths: Paths,
        events: Events,
        background: Background,
        stopping: asyncio.Event,
        settle_log: Callable[[str], Awaitable[None]],
        watches: FileWatches,
    ) -> None:
        self._paths = paths
        self._events = events
        self._background = background
        self._stopping = stopping
        self._settle_log = settle_log
        self._watches = watches

    def attach(self, entry: Entry, options: AttachOptions) -> Attachment:
        """Put a client in place: from here on it misses no output, whether the container runs already or starts later.

        Give the result to ``converse``, or to ``leave``.

        Raises:
            ConflictError: it is paused, restarting or being removed.
            InvalidArgumentError: detach keys that are none.
        """
        if options.live and entry.status is Status.PAUSED:
            raise ConflictError(f"container {entry.id} is paused, unpause the container before attaching")
        if options.live and entry.status is Status.RESTARTING:
            raise ConflictError(f"container {entry.id} is restarting, wait until the container is running")
        keys = parse_detach_keys(options.detach_keys)
        terminal = options.stdin and entry.container.spec.process.tty
        attachment = Attachment(
            entry, options, DetachScanner(keys) if terminal else None, asyncio.get_running_loop().create_future()
        )
        if not options.live:
            attachment.connection.set_result(None)
        elif entry.status in UP:
            attachment.connection.set_result(self._connect(entry))
        else:
            entry.pending.add(attachment.connection)
        self._events.container(entry.container, "attach")
        return attachment

    def _connect(self, entry: Entry) -> StdioConnection | None:
        with contextlib.suppress(ConflictError):  # it has just ended
            connection = StdioConnection.connect(self._paths.container(entry.id).attach_socket)
            entry.connections.add(connection)
            return connection
        return None

    async def converse(self, attachment: Attachment, input: Input) -> AsyncGenerator[list[Frame], None]:
        """Yield output until the container's streams end, or the client's input says to detach.

        Raises:
            UnavailableError: the service stops; the container does not.
        """
        entry, options = attachment.entry, attachment.options
        try:
            if options.logs:
                async for frames in self._past(entry, options.streams):
                    yield frames
            connection = await self._connected(attachment)
            if connection is None:
                return
            session = Session(
                connection,
                stdin=options.stdin and entry.container.spec.process.open_stdin,
                streams=options.streams,
                scanner=attachment.scanner,
                resize=lambda size: self.resize(entry, size),
                hand_over=options.hand_over,
                process=lambda: entry.init_pidfd,
            )
            output = session.run(input, self._stopping)
            try:
                async for frames in output:
                    yield frames
            finally:
                await output.aclose()  # type: ignore[attr-defined]  # it is a generator
            attachment.detached = session.detached
            if session.detached:
                self._events.container(entry.container, "detach")
            elif self._stopping.is_set():
                raise UnavailableError("runtimed is stopping; the container goes on")
        finally:
            self.leave(attachment)

    async def _connected(self, attachment: Attachment) -> StdioConnection | None:
        if not await done_before(attachment.connection, self._stopping):
            raise UnavailableError("runtimed is stopping")
        return attachment.connection.result()

    async def _past(self, entry: Entry, streams: frozenset[Stream]) -> AsyncGenerator[list[Frame], None]:
        if not is_readable(entry.container):
            return
        query = LogQuery(Stream.STDOUT in streams, Stream.STDERR in streams)
        async for entries in self._read(entry, query, entry.down):
            yield [Frame(item.stream, item.line) for item in entries]

    def _read(self, entry: Entry, query: LogQuery, ended: asyncio.Event) -> AsyncIterator[list[LogEntry]]:
        path, form = log_files(entry.container, self._paths.container(entry.id))
        return read_log(path, form, query, ended, lambda: self._settle_log(entry.id), self._watches)

    def leave(self, attachment: Attachment) -> None:
        """Let go of the container. Safe to repeat."""
        entry, future = attachment.entry, attachment.connection
        entry.pending.discard(future)
        if not future.done():
            future.cancel()
            return
        connection = future.result() if not future.cancelled() else None
        if connection is None or connection not in entry.connections:
            return
        process = entry.container.spec.process
        if process.stdin_once and not process.tty and not attachment.options.stdin and not connection.ended:
            # conmon would take this for the end of stdin, which is another client's.
            connection.open_floodgate()
            self._background.watch(self._drain(entry, connection), f"output of {entry.id} nobody reads")
            return
        entry.connections.discard(connection)
        connection.close()

    async def _drain(self, entry: Entry, connection: StdioConnection) -> None:
        try:
            await connection.drain()
        finally:
            entry.connections.discard(connection)
            connection.close()

    def resize(self, entry: Entry, size: ConsoleSize) -> None:
        """Set the size of its terminal; before it starts, the size that it starts with."""
        entry.console_size = size
        if entry.status not in UP:
            return
        with contextlib.suppress(OSError):  # it has just ended
            resize(self._paths.container(entry.id).control, size.height, size.width)
        self._events.container(entry.container, "resize", height=str(size.height), width=str(size.width))

    async def reopen_log(self, entry: Entry) -> None:
        """Have conmon open its log's file anew, by its path; return when it has.

        Raises:
            ConflictError: it does not run.
            InvalidArgumentError: its log is the engine's own to rotate, or there is a directory in its place.
            NotFoundError: the log's directory is gone.
            UnavailableError: conmon does not get to it.
        """
        driver = entry.container.spec.log.driver
        if driver != CRI:
            raise InvalidArgumentError(f"the log of container {entry.id} is not opened anew: its driver is {driver!r}")
        if entry.status not in UP:
            raise ConflictError(f"container {entry.id} is not running")
        path = Path(entry.container.spec.log.options["path"])
        changed = asyncio.Event()
        try:
            watch = self._watches.watch(path.parent, WRITTEN, changed.set)
        except OSError as error:
            raise NotFoundError(f"log directory {path.parent} of container {entry.id}: {error.strerror}") from error
        with contextlib.closing(watch):
            before = await asyncio.to_thread(_file_at, path)
            await asyncio.to_thread(_check_place, path)
            try:
                reopen(self._paths.container(entry.id).control)
                async with asyncio.timeout(_REOPENED_S):
                    # conmon makes another file and puts it where the one was that is there, if there is one.
                    while await asyncio.to_thread(_file_at, path) in (None, before):
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                raise UnavailableError(f"the log of container {entry.id} was not opened anew: {path}") from None
            except OSError:  # it has just ended
                return

    def check_readable(self, entry: Entry) -> None:
        """Raise UnimplementedError: its log cannot be read."""
        if not is_readable(entry.container):
            raise UnimplementedError("configured logging driver does not support reading")

    async def logs(self, entry: Entry, query: LogQuery) -> AsyncGenerator[list[LogEntry], None]:
        """Yield what was logged; with ``follow``, on until the container stops.

        Raises:
            UnavailableError: the service stops first.
            UnimplementedError: it keeps no log.
        """
        self.check_readable(entry)
        ended = asyncio.Event()
        waiter = asyncio.create_task(self._either(entry.down, self._stopping, ended), name="end of a log")
        if entry.down.is_set():
            ended.set()
        try:
            async for entries in self._read(entry, query, ended):
                yield entries
        finally:
            waiter.cancel()
        if query.follow and not entry.down.is_set() and self._stopping.is_set():
            raise UnavailableError("runtimed is stopping; the container goes on")

    async def _either(self, first: asyncio.Event, second: asyncio.Event, then: asyncio.Event) -> None:
        tasks = [asyncio.create_task(event.wait()) for event in (first, second)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            then.set()
        finally:
            for task in tasks:
                task.cancel()


def _check_place(path: Path) -> None:
    """Raise InvalidArgumentError if conmon could not make its file: it would wait, or end and the container with it."""
    made = path.with_name(f"{path.name}.tmp")  # which conmon then puts in the place of the other
    for place, directory in ((path, path.is_dir() and not path.is_symlink()), (made, made.is_dir())):
        if directory:
            raise InvalidArgumentError(f"the log {path} cannot be opened anew: {place} is a directory")
    if made.is_fifo():
        raise InvalidArgumentError(f"the log {path} cannot be opened anew: {made} is a pipe")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
