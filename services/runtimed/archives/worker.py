"""Processes that work in containers' files: forked from ``archiver``, and killed when nobody waits for them."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from runtimed.archives.view import ArchiveJob
from sampan import errors
from sampan.errors import NotFoundError, SampanError, UnavailableError
from sampan.forking.forks import Forks, NoWorkerError

# One ``docker cp`` has two or three of them, and a script many; then the fork server's memory is given back.
_IDLE_S: Final = 20.0
_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgumentError,
        errors.ConflictError,
        errors.PermissionDeniedError,
        errors.ResourceExhaustedError,
        NotFoundError,
    )
}


@dataclass(frozen=True, slots=True)
class Place:
    """What is worked on, for errors."""

    name: str
    path: str
    of: str = "container"


class Worker:
    """A worker at work."""

    def __init__(self, notes: int, size: int, ended: asyncio.StreamReader, life: asyncio.StreamWriter) -> None:
        self._notes = notes
        self._size = size
        self._life = life
        self._ended = asyncio.create_task(ended.read(), name="end of an archive worker")

    async def answer(self, place: Place) -> dict[str, Any]:
        """Wait for the worker's end and return its answer.

        Raises:
            SampanError: what it found.
            UnavailableError: it died.
        """
        code = await asyncio.shield(self._ended)
        lines = os.pread(self._notes, os.fstat(self._notes).st_size, self._size).strip().splitlines()
        try:
            answer: dict[str, Any] = json.loads(lines[-1] if lines and code == b"0" else b"")
        except ValueError:
            raise UnavailableError(
                f"the process that works in {place.of} {place.name} died, or could not be started"
            ) from None
        if "error" not in answer:
            return answer
        kind: type[SampanError] = _KINDS.get(answer["error"], SampanError)
        if kind is NotFoundError:
            raise NotFoundError(f"Could not find the file {place.path} in {place.of} {place.name}")
        raise kind(answer["message"])

    async def end(self) -> None:
        """Have it killed if it still works, and wait until it is gone, however often that is cancelled."""
        if not self._ended.done():
            self._life.write_eof()
        cancelled = False
        while not self._ended.done():
            try:
                await asyncio.wait({self._ended})
            except asyncio.CancelledError:
                cancelled = True
        self._life.transport.abort()
        if cancelled:
            raise asyncio.CancelledError


class Workers:
    """Starts them."""

    def __init__(self) -> None:
        self._forks = Forks("runtimed.archives.archiver", _IDLE_S)

    @asynccontextmanager
    async def working(self, job: ArchiveJob, stdin: int, stdout: int) -> AsyncIterator[Worker]:
        """Have a worker do ``job`` with these descriptors; when the block is left, it is gone.

        Raises:
            UnavailableError: no process can be started.
        """
        text = job.to_json().encode()
        async with self._forks.use():
            with ExitStack() as stack:
                notes = os.memfd_create("archive job", os.MFD_CLOEXEC)
                stack.callback(os.close, notes)
                os.write(notes, text)
                ours, theirs = (stack.enter_context(one) for one in socket.socketpair())
                ended, life = await asyncio.open_connection(sock=ours)
                stack.callback(life.transport.abort)
                try:
                    await self._forks.send(b"%d" % len(text), [stdin, stdout, notes, theirs.fileno()])
                except NoWorkerError:
                    raise UnavailableError("no process can be started to work in the container's files") from None
                theirs.close()
                worker = Worker(notes, len(text), ended, life)
                try:
                    yield worker
                finally:
                    await worker.end()

    async def close(self) -> None:
        """End the fork server; nothing runs any more."""
        await self._forks.close()
