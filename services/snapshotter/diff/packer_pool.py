"""Processes that make layers: started, listened to, and killed when nobody waits for them."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from sampan.json_types import JsonObject
from sampan.log import log
from snapshotter.workers.job import DiffJob, Packed, how_it_ended, parse_answer

_PIECE_BYTES: Final = 1 << 20
_SHOWN_BYTES: Final = 2000  # of what a process wrote to stderr


async def diff(job: DiffJob) -> Packed:
    """Have a worker make a layer. Cancelling kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died.
    """

    return Packed(**await _run(job.to_json()))


@asynccontextmanager
async def piped(job: DiffJob) -> AsyncIterator[tuple[int, Callable[[], Awaitable[Packed]]]]:
    """Have a worker pack into a pipe; yield the end to read from, and what waits for the worker's answer.

    Leaving the context kills the worker. The pipe's other end is closed then.

    Raises:
        SampanError: from the answer, as ``export``; what came out of the pipe is not a whole archive then.
    """
    reading, writing = os.pipe()
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(job.to_json()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.PIPE,
            )
        finally:
            os.close(writing)
        said = asyncio.ensure_future(process.communicate())

        async def answer() -> Packed:
            _, complaints = await asyncio.shield(said)
            lines = complaints.strip().splitlines()
            assert process.returncode is not None
            return Packed(**parse_answer(lines[-1] if lines else b"", how_it_ended(process.returncode)))

        try:
            yield reading, answer
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await _whatever_comes(said)
    finally:
        os.close(reading)


async def export(job: DiffJob) -> AsyncGenerator[bytes, None]:
    """Yield what a worker packs, in pieces. Closing the iterator, or cancelling, kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died; the pieces are not a whole archive then.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(job.to_json()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2 * _PIECE_BYTES,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.ensure_future(process.stderr.read())
    try:
        while piece := await _up_to(process.stdout, _PIECE_BYTES):
            yield piece
        lines = (await said).strip().splitlines()
        parse_answer(lines[-1] if lines else b"", how_it_ended(await process.wait()))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # asyncio does not see the end of a process whose output is not read to its end.
        await _whatever_comes(said, _drain(process.stdout), process.wait())


async def _whatever_comes(*work: Awaitable[object]) -> None:
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


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(_PIECE_BYTES):
        pass


async def _up_to(stream: asyncio.StreamReader, size: int) -> bytes:
    """Return ``size`` bytes, less only at the end."""
    try:
        return await stream.readexactly(size)
    except asyncio.IncompleteReadError as end:
        return end.partial


def _command(job: str) -> tuple[str, ...]:
    return (
        sys.executable,
        "-P",
        "-m",
        "snapshotter.diff.packer",
        job,
    )  # -P: nothing is imported from the working directory


async def _run(job: str) -> JsonObject:
    process = await asyncio.create_subprocess_exec(
        *_command(job),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = asyncio.ensure_future(process.communicate())
    try:
        answer, complaints = await asyncio.shield(said)
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        # It holds nothing that could keep it: this takes as long as the kernel needs to end it.
        await _whatever_comes(said)
        raise
    if complaints:
        log.warning("worker wrote to stderr", text=complaints[-_SHOWN_BYTES:].decode(errors="replace"))
    assert process.returncode is not None
    return parse_answer(answer, how_it_ended(process.returncode))
