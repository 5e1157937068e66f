"""A client's conversation with a process: its input in, output out, until the process ends or the client detaches."""

import asyncio
from collections.abc import AsyncIterator, Callable

from runtimed.conmon.stdio import StdioConnection
from runtimed.streams.detach import DetachScanner
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame, Input, Stream

# Tells a process its terminal's size; nothing happens if it has ended.
Resize = Callable[[ConsoleSize], None]


class Session:
    """One conversation. ``detached`` says afterwards whether the client typed the detach keys."""

    def __init__(
        self,
        connection: StdioConnection,
        *,
        stdin: bool,
        streams: frozenset[Stream],
        scanner: DetachScanner | None,
        resize: Resize,
    ) -> None:
        self._connection = connection
        self._stdin = stdin
        self._streams = streams
        self._scanner = scanner
        self._resize = resize
        self.detached = False

    async def run(self, input: Input, stopping: asyncio.Event) -> AsyncIterator[list[Frame]]:
        """Yield output until there is no more; all of it, whatever becomes of the input.

        Also ends when ``stopping`` is set; the connection is the caller's to close.
        """
        feeding = asyncio.create_task(self._feed(input), name="input of a session")
        stopper = asyncio.create_task(self._stop(stopping), name="end of a session")
        try:
            while frames := await self._connection.read():
                if self.detached:
                    return
                wanted = [frame for frame in frames if frame.stream in self._streams]
                if wanted:
                    yield wanted
        finally:
            for task in (feeding, stopper):
                task.cancel()
            await asyncio.gather(feeding, stopper, return_exceptions=True)

    async def _feed(self, input: Input) -> None:
        async for item in input:
            if isinstance(item, ConsoleSize):
                self._resize(item)
            elif self._stdin:
                passed, detached = self._scanner.feed(item) if self._scanner else (item, False)
                await self._connection.write(passed)
                if detached:
                    self.detached = True
                    self._connection.close()
                    return
        if self._stdin:
            self._connection.close_stdin()

    async def _stop(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._connection.close()
