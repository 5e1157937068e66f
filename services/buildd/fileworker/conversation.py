"""Worker processes for files: told a job, listened to, and killed when nobody waits for them."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from buildd.fileworker.jobs import LENGTH, Done, Job, pack, unpack_answer
from sampan.errors import UnavailableError
from sampan.forking.forks import Complaints, Forks, NoWorkerError

_MODULE: Final = "buildd.fileworker.fork_server"
_IDLE_S: Final = 60.0  # steps of a build follow each other
_BUFFER_BYTES: Final = 1 << 20


class Workers:
    """Has jobs done, each by a process of its own."""

    def __init__(self, scratch: Path, idle_s: float = _IDLE_S) -> None:
        """``scratch`` is an empty directory that workers mount on, each for itself."""
        self._scratch = scratch
        self._forks = Forks(_MODULE, idle_s)

    async def close(self) -> None:
        """End the fork server; nothing runs any more."""
        await self._forks.close()

    async def do(self, job: Job) -> Done:
        """Have a job done that answers once. Cancelled, its worker is killed and gone.

        Raises:
            SampanError: what the worker answers, or UnavailableError if it died.
        """
        async with self.talk(job) as worker:
            return await worker.answer()

    @asynccontextmanager
    async def talk(self, job: Job) -> AsyncIterator["Worker"]:
        """Give a job to a worker, which is killed unless it has ended when this is left."""
        async with self._forks.use():
            with ExitStack() as stack:
                ours, theirs = _pair(stack)
                line, their_line = _pair(stack)
                complaints = Complaints(stack)
                # All that can be cancelled comes before there is a worker.
                reader, writer = await _connect(ours, stack)
                ended, end = await _connect(line, stack)
                descriptors = [theirs.fileno(), theirs.fileno(), complaints.fd, their_line.fileno()]
                try:
                    await self._forks.send(bytes(self._scratch), descriptors)
                except NoWorkerError:
                    raise UnavailableError("no process can be started to work on files") from None
                theirs.close()
                their_line.close()
                worker = Worker(reader, writer, ended)
                try:
                    with suppress(BrokenPipeError, ConnectionResetError):  # its end says why
                        writer.write(pack(job))
                        await writer.drain()
                    yield worker
                    writer.write_eof()
                    await worker.end()
                except BaseException:
                    end.write_eof()
                    # It holds nothing that could keep it: this takes as long as the kernel needs to end it.
                    await asyncio.shield(asyncio.gather(worker.end(), return_exceptions=True))
                    raise
                finally:
                    complaints.show()


class Worker:
    """A worker that has been told its job."""

    def __init__(self, answers: asyncio.StreamReader, feed: asyncio.StreamWriter, ended: asyncio.StreamReader) -> None:
        self._answers = answers
        self._feed = feed
        self._ended = ended
        self._code = b""

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the data before the answer. Raises as ``answer``."""
        while length := await self._length():
            yield await self._exactly(length)

    async def answer(self) -> Done:
        """Return the answer; data before it is dropped.

        Raises:
            SampanError: it is a failure, or UnavailableError: there is none.
        """
        async for _ in self.pieces():
            pass
        return await self.verdict()

    async def verdict(self) -> Done:
        """Return the answer, once all data has been read. Raises as ``answer``."""
        answer = unpack_answer(await self._exactly(await self._length()))
        if not isinstance(answer, Done):
            raise answer.error()
        return answer

    async def end(self) -> None:
        """Wait until the process is gone."""
        self._code += await self._ended.read()

    async def _length(self) -> int:
        length: int = LENGTH.unpack(await self._exactly(LENGTH.size))[0]
        return length

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._answers.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            await self.end()
            raise UnavailableError(f"the process working on files {_how_it_ended(self._code)}") from None


def _how_it_ended(code: bytes) -> str:
    if not code:
        return "ended with the one that it was forked from"
    if int(code) < 0:
        return f"was killed by {signal.Signals(-int(code)).name}"
    return f"ended with exit code {int(code)} and no answer"


def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)


async def _connect(ours: socket.socket, stack: ExitStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)
    stack.callback(writer.transport.abort)
    return reader, writer
