"""Worker processes: forked from a fork server, fed, listened to, and killed when nobody waits for them."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.forking.fork_server import MAX_JOB_BYTES
from sampan.forking.forks import Complaints, Forks, NoWorkerError
from sampan.json_types import JsonObject
from snapshotter.workers.job import PROGRESS, Answer, ApplyJob, Work, WorkerDiedError, how_it_ended, parse_answer

# Layers of one pull follow each other closely, and so do most steps of a build; after that the fork server's memory is
# better spent elsewhere.
_IDLE_S: Final = 20.0

_LINE_BYTES: Final = 1 << 20  # longest answer


class Worker:
    """A process at work."""

    def __init__(
        self,
        answers: asyncio.StreamReader,
        exit_code: asyncio.StreamReader,
        life: asyncio.StreamWriter,
        read: Callable[[int], None],
    ) -> None:
        """``life`` is what its end kills the process with; ``read`` is told how far it is."""
        self._life = life
        self._told = asyncio.ensure_future(_listen(answers, read))
        self._ended = asyncio.ensure_future(exit_code.read())

    async def answer(self) -> JsonObject:
        """Return the fields of its answer, when it has ended.

        Raises:
            SampanError: what it found, or WorkerDiedError if it died.
        """
        told = await asyncio.shield(self._told)
        code = await asyncio.shield(self._ended)
        if not code:
            raise WorkerDiedError("the process working on it ended with the one that it was forked from")
        return parse_answer(told, how_it_ended(int(code)))

    async def end(self) -> None:
        """Kill it, unless it has ended, and wait for its end."""
        if not (self._told.done() and self._ended.done()):
            with suppress(OSError):
                self._life.write_eof()
        # It holds nothing that could keep it: this takes as long as the kernel needs to end it.
        await whatever_comes(self._told, self._ended)


class Workers:
    """Has layers unpacked and packed, each by a process of its own, forked from a fork server that comes and goes."""

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        """Keep the fork server for ``idle_s`` after the last job."""
        self._forks = Forks("snapshotter.workers.fork_server", idle_s)

    async def apply(
        self, job: ApplyJob, blob: int | AsyncGenerator[bytes, None], read: Callable[[int], None]
    ) -> Answer:
        """Have a worker unpack ``blob``: an open file, or its bytes. ``read`` is told how many it has taken so far.

        When this is cancelled, or ``blob`` fails, the worker is killed and gone.

        Raises:
            SampanError: what the worker found, or WorkerDiedError if it died.
        """
        if isinstance(blob, int):
            async with self.working(Work.APPLY, job.to_json(), blob, read) as worker:
                return Answer(**await worker.answer())
        with ExitStack() as stack:
            feed, stdin = (stack.enter_context(one) for one in socket.socketpair())
            _, sending = await asyncio.open_connection(sock=feed)
            stack.callback(sending.transport.abort)
            async with self.working(Work.APPLY, job.to_json(), stdin.fileno(), read) as worker:
                stdin.close()
                await _feed(sending, blob)
                return Answer(**await worker.answer())

    @asynccontextmanager
    async def working(
        self, work: Work, job: str, given: int, read: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[Worker]:
        """Have a worker do ``job`` with the descriptor ``given`` as its first; when the block is left, it is gone.

        Raises:
            WorkerDiedError: no process can be started.
        """
        async with self._forks.use():
            with ExitStack() as stack:

                def pair() -> tuple[socket.socket, socket.socket]:
                    ours, theirs = socket.socketpair()
                    return stack.enter_context(ours), stack.enter_context(theirs)

                async def connect(ours: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                    reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
                    stack.callback(writer.transport.abort)
                    return reader, writer

                (answers, stdout), (line, their_line) = pair(), pair()
                complaints = Complaints(stack)
                # All that can be cancelled comes before there is a worker.
                answering, _ = await connect(answers)
                ended, life = await connect(line)
                await self._send(work, job, [given, stdout.fileno(), complaints.fd, their_line.fileno()])
                worker = Worker(answering, ended, life, read)
                try:
                    for theirs in (stdout, their_line):
                        theirs.close()
                    yield worker
                finally:
                    await worker.end()
                    complaints.show()

    async def close(self) -> None:
        """End the fork server; nothing runs any more."""
        await self._forks.close()

    async def _send(self, work: Work, job: str, descriptors: list[int]) -> None:
        message = f"{work.value} {job}".encode()
        if len(message) > MAX_JOB_BYTES:
            raise InvalidArgumentError(f"its parents and what is left out take {len(message)} bytes to name: too many")
        try:
            await self._forks.send(message, descriptors)
        except NoWorkerError:
            raise WorkerDiedError("no process can be started to work on it") from None


async def _feed(worker: asyncio.StreamWriter, blob: AsyncGenerator[bytes, None]) -> None:
    """Send a blob's bytes. When the worker has heard enough its answer says why."""
    with suppress(BrokenPipeError, ConnectionResetError):
        async with aclosing(blob):
            async for piece in blob:
                worker.write(piece)
                await worker.drain()
        worker.write_eof()


async def _listen(answers: asyncio.StreamReader, read: Callable[[int], None]) -> bytes:
    """Return the last line that a worker wrote; those before it say how far it is."""
    last = b""
    async for line in answers:
        if line.startswith(PROGRESS):
            read(int(line.removeprefix(PROGRESS)))
        else:
            last = line
    return last


async def whatever_comes(*work: Awaitable[object]) -> None:
    """Wait for the end of what a killed process leaves, however often whoever waits is cancelled: nobody else does."""
    ending = asyncio.gather(*work, return_exceptions=True)
    cancelled = False
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def count() -> int:
    """How many layers to unpack at once: more than the processors would only make each later."""
    return max(1, len(os.sched_getaffinity(0)))
