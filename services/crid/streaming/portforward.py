"""Ports of pods: each connection of a client's is a pair of streams, one for its bytes and one for what went wrong.

SPDY opens pairs as connections come. WebSocket has its own form of that, with a pair per port that the request names
(v4), and a tunnel in which SPDY is spoken as if there were no WebSocket.

Reference: k8s.io/client-go ``tools/portforward``; kubelet's ``cri/streaming/portforward``.
"""

import asyncio
import struct
from collections.abc import Coroutine
from typing import Final

from crid.streaming.inlet import DATA, ERROR, Duplex
from crid.streaming.pipe import Pipe
from crid.streaming.requests import Ports
from crid.streaming.spdy import SpdyConnection, SpdyStream
from crid.streaming.websocket import Channels, WebSocket
from sampan.errors import SampanError
from sampan.log import log

SPDY_PROTOCOLS: Final = ("portforward.k8s.io",)

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
_BASE64: Final = "v4.base64.channel.k8s.io"
WEBSOCKET_PROTOCOLS: Final = (TUNNEL, "v4.channel.k8s.io", _BASE64)

# For the second stream of a pair to follow the first.
_PAIR_S: Final = 30.0

_READ_BYTES: Final = 256 << 10


class Forwarder:
    """Connections with the ports of one pod, as many as a client opens, each on its own."""

    def __init__(self, ports: Ports, sandbox: str) -> None:
        self._ports = ports
        self._sandbox = sandbox
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, stream: SpdyStream) -> bool:
        """Take a stream of a pair; with its second one a connection begins."""
        kind, port = stream.headers.get("streamtype", "").lower(), stream.headers.get("port", "")
        if kind not in (DATA, ERROR) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            return False
        # Clients that are old give no ID, and open a pair's two streams one after the other.
        request = stream.headers.get("requestid") or str(stream.id - (2 if kind == DATA else 0))
        pair = self._pairs.get(request)
        if pair is None:
            pair = self._pairs[request] = _Pair(int(port))
            self._start(self._forget(request, pair))
        if kind in pair.streams or pair.port != int(port):
            return False
        pair.streams[kind] = stream
        if len(pair.streams) == 2:
            pair.complete.set()
            self._start(self.forward(pair.port, pair.streams[DATA], pair.streams[ERROR]))
        return True

    async def forward(self, port: int, data: Duplex, error: Duplex) -> None:
        """Pass bytes on until both sides are done, or one has gone; tell what kept it from that."""
        try:
            connection = await self._ports.connect(self._sandbox, port)
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                await _join(reader, writer, data)
            finally:
                writer.transport.abort()
        except (SampanError, OSError) as problem:
            message = f"error forwarding port {port} to pod {self._sandbox}: {problem}"
            log.info("port not forwarded", sandbox=self._sandbox, port=port, error=str(problem))
            await error.write(message.encode())
        data.inlet.discard()
        await data.finish()
        await error.finish()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("forwarded connection failed", exc_info=error)

    async def _forget(self, request: str, pair: "_Pair") -> None:
        """Drop a pair from the ones that wait, when it is complete or nobody completes it."""
        try:
            async with asyncio.timeout(_PAIR_S):
                await pair.complete.wait()
        except TimeoutError:
            for kind, stream in pair.streams.items():
                if kind == ERROR:
                    await stream.write(b"timed out waiting for the other stream of the connection")
                await stream.reset()
        finally:
            del self._pairs[request]


class _Pair:
    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: dict[str, SpdyStream] = {}
        self.complete = asyncio.Event()


async def over_spdy(pipe: Pipe, forwarder: Forwarder) -> None:
    """Serve a client until it leaves."""
    try:
        await SpdyConnection(pipe, forwarder.accept).run()
    finally:
        await forwarder.close()


async def over_websocket(web_socket: WebSocket, protocol: str, ports: tuple[int, ...], forwarder: Forwarder) -> None:
    """Serve a client that has named its ports, until all of its connections are over or it leaves."""
    channels = Channels(web_socket, 2 * len(ports), is_base64=protocol == _BASE64, closes=False)
    reading = asyncio.create_task(channels.run(), name="input of forwarded ports")
    forwards: list[asyncio.Task[None]] = []
    try:
        for port, data, error in zip(ports, channels.all[::2], channels.all[1::2], strict=True):
            for channel in (data, error):
                await channel.write(struct.pack("<H", port))
            forwards.append(asyncio.create_task(forwarder.forward(port, data, error), name=f"port {port}"))
        done = asyncio.gather(*forwards)
        await asyncio.wait((reading, done), return_when=asyncio.FIRST_COMPLETED)
        await web_socket.close()
    finally:
        for task in (reading, *forwards):
            task.cancel()
        await asyncio.gather(reading, *forwards, return_exceptions=True)


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: Duplex) -> None:
    """Pass bytes on in both directions, each to its end; a client that has taken its stream back ends both."""

    async def send() -> None:
        async for chunk in data.inlet.chunks():
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def receive() -> None:
        while chunk := await reader.read(_READ_BYTES):
            await data.write(chunk)
        await data.finish()

    directions = {asyncio.create_task(send(), name="to a port"), asyncio.create_task(receive(), name="from a port")}
    gone = asyncio.create_task(data.inlet.until_broken(), name="client of a port")
    pending = set(directions)
    try:
        while pending and not gone.done():
            done, _ = await asyncio.wait((*pending, gone), return_when=asyncio.FIRST_COMPLETED)
            for task in done & pending:
                task.result()
            pending -= done
    finally:
        for task in (*directions, gone):
            task.cancel()
        await asyncio.gather(*directions, gone, return_exceptions=True)
