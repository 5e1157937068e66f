"""A process of the fake engine: a few built-in commands, in memory.

``true`` ends at once, ``sleep`` when it is signalled, ``cat`` and ``sink`` at the end of their input, ``echo`` and
``err`` after one line, ``flood N`` after N bytes, and ``exit N`` with that code.
"""

import asyncio
from collections.abc import AsyncIterator

from sampan.api.runtime.v1 import containers_pb2

Frame = containers_pb2.Frame


class Process:
    """One built-in command: frames out, bytes in."""

    def __init__(self, args: list[str]) -> None:
        self.args = args
        self.output: asyncio.Queue[Frame | None] = asyncio.Queue(64)
        self.input: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.received = b""
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self._task = asyncio.create_task(self._life())

    async def _life(self) -> None:
        try:
            self.exit_code = await self._run()
        except asyncio.CancelledError:
            self.exit_code = 137
        self.ended.set()
        await self.output.put(None)

    async def _run(self) -> int:
        match self.args:
            case ["cat"]:
                while (chunk := await self.input.get()) is not None:
                    self.received += chunk
                    await self.write(Frame.STDOUT, chunk)
            case ["sink"]:
                while (chunk := await self.input.get()) is not None:
                    self.received += chunk
            case ["echo", *words]:
                await self.write(Frame.STDOUT, " ".join(words).encode() + b"\n")
            case ["err", *words]:
                await self.write(Frame.STDERR, " ".join(words).encode() + b"\n")
            case ["flood", count]:
                await self._flood(int(count))
            case ["exit", code]:
                return int(code)
            case ["sleep", *_]:
                await asyncio.Event().wait()
        return 0

    async def _flood(self, count: int) -> None:
        piece = bytes(range(256)) * 32
        for _ in range(count // len(piece)):
            await self.write(Frame.STDOUT, piece)

    async def write(self, stream: Frame.Stream.ValueType, data: bytes) -> None:
        await self.output.put(Frame(stream=stream, data=data))

    def kill(self) -> None:
        self._task.cancel()

    async def frames(self) -> AsyncIterator[containers_pb2.StreamOutput]:
        while True:
            batch = [await self.output.get()]
            while not self.output.empty():
                batch.append(self.output.get_nowait())
            frames = [frame for frame in batch if frame is not None]
            if frames:
                yield containers_pb2.StreamOutput(frames=frames)
            if batch[-1] is None:
                return
