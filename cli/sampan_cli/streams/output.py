"""Write a container's output to our own, in pieces as big as they come."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from types import TracebackType

from sampan.resource.streams import Frame, Stream
from sampan_cli.streams.console import Console


class OutputWriter:
    """Writes frames in order. A reader that is slow holds up this writer, not the loop: a thread of its own writes.

    While it writes one message the next is received; that is as far ahead as it gets.
    """

    def __init__(self, console: Console) -> None:
        self._fds = {Stream.STDOUT: console.stdout, Stream.STDERR: console.stderr}
        self._thread = ThreadPoolExecutor(1, "output")
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> "OutputWriter":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until everything is written, unless something went wrong already."""
        if error is None:
            await self.flush()
        elif self._writing is not None:  # it may fail, too, of which nobody is to hear any more
            self._writing.add_done_callback(lambda writing: writing.cancelled() or writing.exception())
        self._thread.shutdown(wait=error is None, cancel_futures=True)

    async def write(self, frames: Iterable[Frame]) -> None:
        """Take ``frames``; they are written when ``flush`` returns.

        Raises:
            BrokenPipeError: nobody reads our output any more.
        """
        pieces = [
            (self._fds.get(stream, self._fds[Stream.STDOUT]), b"".join(frame.data for frame in group))
            for stream, group in groupby(frames, key=lambda frame: frame.stream)
        ]
        await self.flush()
        if pieces:
            self._writing = asyncio.get_running_loop().run_in_executor(self._thread, _write_all, pieces)

    async def flush(self) -> None:
        """Wait until everything that was taken is written. Raises what ``write`` does."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing


def _write_all(pieces: list[tuple[int, bytes]]) -> None:
    for fd, piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]
