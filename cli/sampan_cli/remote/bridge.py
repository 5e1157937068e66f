"""An engine elsewhere, as if its sockets were here.

gRPC connects to sockets. So there is one for each service, in a directory that nobody else can enter and that goes
with the command, and what connects there is carried to the engine, a connection for each.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan.service import elsewhere
from sampan.services import ALL, LISTENER
from sampan_cli.remote.dialing import Dialer

_PIECE_BYTES: Final = 256 << 10


class Bridge:
    """Carries connections. ``problem`` is why the last one could not be had."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self.problem: SampanError | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Layout]:
        """Yield the layout of an engine that is reached by sockets within.

        Raises:
            SampanError: there is no engine, or it lets nobody in; see ``Dialer.ask``.
        """
        document = await self._dialer.ask("/grpc")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._dialer.close)
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-"))
            layout = await asyncio.to_thread(elsewhere.laid_out, document, Path(directory))
            for service in ALL:
                if service != LISTENER:
                    await stack.enter_async_context(self._listening(service, layout.socket(service)))
            yield layout

    @asynccontextmanager
    async def _listening(self, service: str, socket: Path) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(service, reader, writer), name=f"carry {service}")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_unix_server(accept, socket, limit=_PIECE_BYTES)
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._dialer.tunnel(service) as wire:
                self.problem = None
                ways = [
                    asyncio.create_task(_copy(*way), name=f"carry {service}")
                    for way in ((reader, wire.writer), (wire.reader, writer))
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
        except SampanError as error:
            self.problem = error
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # that breaks is an end like any other: whoever connected here learns of it
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
