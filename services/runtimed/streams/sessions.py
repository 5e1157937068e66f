"""A client's conversation with a process: its input in, output out, until the process ends or the client detaches."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from runtimed.conmon.stdio import StdioConnection
from runtimed.streams.detach import DetachScanner
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame, HandOver, Input, Stream

# A client that has been sent so much by messages is about to get a lot more, as a rule.
HAND_OVER_BYTES: Final = 1 << 20
# One that was too busy to take it is asked again after so many times as much.
_ASKED_AGAIN: Final = 4

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
        hand_over: HandOver | None = None,
        process: Callable[[], int] | None = None,
    ) -> None:
        """With ``hand_over`` somebody else reads what comes after ``HAND_OVER_BYTES``, or later.

        ``process`` returns a pidfd of the process after whose end output is to be read on whatever becomes of it, -1 if
        it has ended; None: there is none of that kind.
        """
        self._connection = connection
        self._stdin = stdin
        self._streams = streams
        self._scanner = scanner
        self._resize = resize
        self._hand_over = hand_over
        self._process = process
        self._carried_bytes = 0
        self._offered_at_bytes = HAND_OVER_BYTES
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
                if wanted := self._wanted(frames):
                    yield wanted
                self._carried_bytes += sum([len(frame.data) for frame in frames])
                if self._hand_over is not None and self._carried_bytes >= self._offered_at_bytes:
                    self._offered_at_bytes = self._carried_bytes * _ASKED_AGAIN
                    if wanted := self._wanted(self._connection.stop_reading()):
                        yield wanted
                    await self._connection.hand_over(partial(self._give, self._hand_over))
                    if self.detached:
                        return
        finally:
            for task in (feeding, stopper):
                task.cancel()
            await asyncio.gather(feeding, stopper, return_exceptions=True)

    def _wanted(self, frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if frame.stream in self._streams]

    async def _give(self, hand_over: HandOver, output: int) -> bool:
        if self._process is None:
            return await hand_over((output,))
        process = self._process()
        # What a process that has ended has left is little.
        return process >= 0 and await hand_over((output, process))

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
