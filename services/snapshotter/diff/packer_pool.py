"""Processes that make layers: forked, listened to, and killed when nobody waits for them."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from snapshotter.workers.job import DiffJob, Packed, Work
from snapshotter.workers.pool import Workers

_PIECE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = 1031


async def diff(workers: Workers, job: DiffJob) -> Packed:
    """Have a worker write a layer to the job's target. Cancelling kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died.
    """
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        async with workers.working(Work.PACK, job.to_json(), nothing) as worker:
            return Packed(**await worker.answer())
    finally:
        os.close(nothing)


@asynccontextmanager
async def piped(workers: Workers, job: DiffJob) -> AsyncIterator[tuple[int, Callable[[], Awaitable[Packed]]]]:
    """Have a worker pack into a pipe; yield the end to read from, and what waits for the worker's answer.

    Leaving the context kills the worker. The pipe's other end is closed then. Who waits for the answer has handed the
    end to read from on, which is closed here: a worker whose only reader has gone learns of it.

    Raises:
        SampanError: from the answer, as ``export``; what came out of the pipe is not a whole archive then.
    """
    reading, writing = os.pipe()
    open_ends = [reading, writing]
    try:
        with suppress(OSError):  # more than the system allows
            fcntl.fcntl(writing, _F_SETPIPE_SZ, _PIECE_BYTES)
        async with workers.working(Work.PACK, job.to_json(), writing) as worker:
            open_ends.remove(writing)
            os.close(writing)

            async def answer() -> Packed:
                if reading in open_ends:
                    open_ends.remove(reading)
                    os.close(reading)
                return Packed(**await worker.answer())

            yield reading, answer
    finally:
        for end in open_ends:
            os.close(end)


async def export(workers: Workers, job: DiffJob) -> AsyncGenerator[bytes, None]:
    """Yield what a worker packs, in pieces. Closing the iterator, or cancelling, kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died; the pieces are not a whole archive then.
    """
    async with piped(workers, job) as (pipe, answer):
        stream = asyncio.StreamReader(limit=2 * _PIECE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream),
            os.fdopen(os.dup(pipe), "rb", buffering=0),
        )
        try:
            while piece := await _up_to(stream, _PIECE_BYTES):
                yield piece
            await answer()
        finally:
            transport.close()


async def _up_to(stream: asyncio.StreamReader, size: int) -> bytes:
    """Return ``size`` bytes, less only at the end."""
    try:
        return await stream.readexactly(size)
    except asyncio.IncompleteReadError as end:
        return end.partial
