"""Worker processes: forked from a template, fed, listened to, and killed when nobody waits for them."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Final

from sampan.forking.forks import Complaints, Forks, NoWorkerError
from snapshotter.workers.job import PROGRESS, Answer, ApplyJob, WorkerDiedError, how_it_ended, parse_answer

# Layers of one pull follow each other closely; after that the template's memory is better spent elsewhere.
_IDLE_S: Final = 5.0

_LINE_BYTES: Final = 1 << 20  # longest answer


@dataclass(frozen=True, slots=True)
class _Streams:
    """Our ends of a worker's sockets."""

    feed: asyncio.StreamWriter
    answers: asyncio.StreamReader
    exit_code: asyncio.StreamReader
    life: asyncio.StreamWriter  # whose end kills it


class Workers:
    """Has layers unpacked, each by a process of its own. The template that they are forked from comes and goes."""

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        """Keep the template for ``idle_s`` after the last job."""
        self._forks = Forks("snapshotter.workers.fork_server", idle_s)

    async def apply(
        self, job: ApplyJob, blob: int | AsyncGenerator[bytes, None], read: Callable[[int], None]
    ) -> Answer:
        """Have a worker unpack ``blob``: an open file, or its bytes. ``read`` is told how many it has taken so far.

        When this is cancelled, or ``blob`` fails, the worker is killed and gone.

        Raises:
            SampanError: what the worker found, or WorkerDiedError if it died.
        """
        async with self._forks.use():
            return await self._apply(job, blob, read)

    async def close(self) -> None:
        """End the template; nothing runs any more."""
        await self._forks.close()

    async def _apply(
        self, job: ApplyJob, blob: int | AsyncGenerator[bytes, None], read: Callable[[int], None]
    ) -> Answer:
        with ExitStack() as stack:

            def pair() -> tuple[socket.socket, socket.socket]:
                ours, theirs = socket.socketpair()
                return stack.enter_context(ours), stack.enter_context(theirs)

            (feed, stdin), (answers, stdout), (line, their_line) = pair(), pair(), pair()

            async def connect(ours: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
                stack.callback(writer.transport.abort)
                return reader, writer

            complaints = Complaints(stack)
            # All that can be cancelled comes before there is a worker.
            _, sending = await connect(feed)
            answering, _ = await connect(answers)
            ended, end = await connect(line)
            taken = blob if isinstance(blob, int) else stdin.fileno()
            await self._send(job.to_json().encode(), [taken, stdout.fileno(), complaints.fd, their_line.fileno()])
            for theirs in (stdin, stdout, their_line):
                theirs.close()
            answer, code = await _converse(_Streams(sending, answering, ended, end), blob, read)
            complaints.show()
        if not code:
            raise WorkerDiedError("the process working on it ended with the one that it was forked from")
        return Answer(**parse_answer(answer, how_it_ended(int(code))))

    async def _send(self, job: bytes, descriptors: list[int]) -> None:
        try:
            await self._forks.send(job, descriptors)
        except NoWorkerError:
            raise WorkerDiedError("no process can be started to work on it") from None


async def _converse(
    worker: _Streams, blob: int | AsyncGenerator[bytes, None], read: Callable[[int], None]
) -> tuple[bytes, bytes]:
    """Return a worker's answer and exit code; nothing for a code if nobody is left to tell it."""
    listening = asyncio.ensure_future(_listen(worker.answers, read))
    try:
        if not isinstance(blob, int):
            await _feed(worker.feed, blob)
        return await listening, await worker.exit_code.read()
    except BaseException:
        listening.cancel()
        worker.life.write_eof()
        # It holds nothing that could keep it: this takes as long as the kernel needs to end it.
        await asyncio.shield(asyncio.gather(worker.exit_code.read(), listening, return_exceptions=True))
        raise


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


def count() -> int:
    """How many layers to unpack at once: more than the processors would only make each later."""
    return max(1, len(os.sched_getaffinity(0)))
