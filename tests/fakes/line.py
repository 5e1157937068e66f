"""A socket before another one, whose connections a test holds up or breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_PIECE_BYTES = 1 << 16


class Line:
    """Passes on what it is sent, both ways."""

    def __init__(self, here: Path, there: Path) -> None:
        self.here, self._there = here, there
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.answering = asyncio.Event()  # until it is set, nothing comes back
        self.answering.set()

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_unix_server(self._connected, self.here)

    def cut(self) -> None:
        """Break all connections, as when the process behind them is killed; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Break all connections and take no more."""
        assert self._server is not None
        self._server.close()
        self.here.unlink(missing_ok=True)
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._there)
        self._writers |= {writer, back}
        for source, target, event in ((reader, back, None), (there, writer, self.answering)):
            task = asyncio.create_task(_pass_on(source, target, event), name="half of a line")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, event: asyncio.Event | None) -> None:
    with suppress(OSError):
        while piece := await source.read(_PIECE_BYTES):
            if event is not None:
                await event.wait()
            target.write(piece)
            await target.drain()
    target.transport.abort()


@asynccontextmanager
async def line_to(there: Path) -> AsyncIterator[tuple[Line, Path]]:
    """Yield a line to a socket, and where it listens."""
    here = there.with_name(f"{there.name}-line")
    line = Line(here, there)
    await line.listen()
    try:
        yield line, here
    finally:
        await line.close()
