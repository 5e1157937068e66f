"""Worker processes: started, fed, listened to, and killed when nobody waits for them."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, Final

from sampan.log import log
from snapshotter.job import Answer, ApplyJob, DiffJob, Packed, parse_answer

_F_SETPIPE_SZ: Final = 1031
_PIPE_BYTES: Final = 1 << 20  # /proc/sys/fs/pipe-max-size of an unchanged system
_SHOWN_BYTES: Final = 2000  # of what a worker wrote to stderr


async def apply(job: ApplyJob, blob: AsyncGenerator[bytes, None], read: Callable[[int], None]) -> Answer:
    """Have a worker unpack ``blob``; ``read`` is told how many bytes it has taken.

    When this is cancelled, or ``blob`` fails, the worker is killed and gone.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died.
    """

    async def feed(pipe: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            fcntl.fcntl(pipe.get_extra_info("pipe").fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
        # When the worker has heard enough its answer says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            async with aclosing(blob):
                async for piece in blob:
                    pipe.write(piece)
                    await pipe.drain()
                    read(len(piece))

    return Answer(**await _run("snapshotter.worker", job.to_json(), feed))


async def diff(job: DiffJob) -> Packed:
    """Have a worker make a layer. Cancelling kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died.
    """

    async def feed(pipe: asyncio.StreamWriter) -> None:
        """It reads nothing."""

    return Packed(**await _run("snapshotter.packer", job.to_json(), feed))


async def export(job: DiffJob) -> AsyncGenerator[bytes, None]:
    """Yield what a worker packs, in pieces. Closing the iterator, or cancelling, kills it.

    Raises:
        SampanError: what the worker found, or WorkerDiedError if it died; the pieces are not a whole archive then.
    """
    process = await asyncio.create_subprocess_exec(
        *_command("snapshotter.packer", job.to_json()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2 * _PIPE_BYTES,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.ensure_future(process.stderr.read())
    try:
        while piece := await _up_to(process.stdout, _PIPE_BYTES):
            yield piece
        lines = (await said).strip().splitlines()
        parse_answer(lines[-1] if lines else b"", _ended(await process.wait()))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # asyncio does not see the end of a process whose output is not read to its end.
        await asyncio.shield(asyncio.gather(said, _drain(process.stdout), process.wait(), return_exceptions=True))


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(_PIPE_BYTES):
        pass


async def _up_to(stream: asyncio.StreamReader, size: int) -> bytes:
    """Return ``size`` bytes, less only at the end."""
    try:
        return await stream.readexactly(size)
    except asyncio.IncompleteReadError as end:
        return end.partial


def _command(module: str, job: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module, job)  # -P: nothing is imported from the working directory


async def _run(module: str, job: str, feed: Callable[[asyncio.StreamWriter], Any]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *_command(module, job),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.gather(process.stdout.read(), process.stderr.read())
    try:
        await feed(process.stdin)
        process.stdin.close()
        answer, complaints = await said
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        # It holds nothing that could keep it: this takes as long as the kernel needs to end it.
        await asyncio.shield(asyncio.gather(said, process.wait(), return_exceptions=True))
        raise
    if complaints:
        log.warning("worker wrote to stderr", text=complaints[-_SHOWN_BYTES:].decode(errors="replace"))
    return parse_answer(answer, _ended(code))


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    return f"was killed by {signal.Signals(-code).name}"


def count() -> int:
    """How many layers to unpack at once: more than the processors would only make each later."""
    return max(1, len(os.sched_getaffinity(0)))
