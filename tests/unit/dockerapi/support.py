"""A Docker API on a socket with a fake engine behind it, and a client for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

from dockerapi.admission import Admission
from dockerapi.backend import Backend
from dockerapi.build.underway import Underway
from dockerapi.http.hangup import HangupWatch
from dockerapi.http.server import DockerApi
from dockerapi.main import ROUTES
from dockerapi.metrics import ApiMetrics
from dockerapi.wire.gate import Gate
from sampan.engine.engine import Engine
from sampan.layout import Layout
from tests.fakes.builder import FakeBuilder
from tests.fakes.engine import FakeEngine, fake_engine


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


@dataclass
class Api:
    """What a test talks to, and what it looks behind."""

    fake: FakeEngine
    builder: FakeBuilder
    session: aiohttp.ClientSession
    registry: CollectorRegistry
    server: DockerApi

    @property
    def socket(self) -> Path:
        return self.fake.layout.docker_socket

    async def request(self, method: str, path: str | URL, **more: Any) -> Answer:
        url = f"http://docker{path}" if isinstance(path, str) else path
        async with self.session.request(method, url, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str | URL, **more: Any) -> Answer:
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Answer:
        return await self.request("POST", path, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.request("DELETE", path, **more)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of bytes."""
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=1 << 16)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def running_api(root: Path, admission: Admission | None = None, shown_owner: str = "") -> AsyncIterator[Api]:
    """Serve everything below ``root``, whose path must be short enough for sockets."""
    layout = Layout(root / "d", root / "r")
    async with fake_engine(layout) as fake, Engine.connect(layout) as engine:
        hangups = HangupWatch(asyncio.get_running_loop())
        registry = CollectorRegistry()
        engine.__dict__["builds"] = fake.builder  # in its place: it shows progress and takes uploads, too
        gate = Gate(layout, *((admission.trail, admission.plugins) if admission is not None else ()))
        backend = Backend(
            engine, engine.runtime, ApiMetrics(registry), hangups, fake.builder, Underway(), gate, shown_owner
        )
        server = DockerApi(backend, ROUTES, admission=admission)
        await server.listen(layout.docker_socket, "no-such-group")
        connector = aiohttp.UnixConnector(str(layout.docker_socket))
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Api(fake, fake.builder, session, registry, server)
        finally:
            await server.close(1.0)
            hangups.close()


def head_of(method: str, path: str, *, upgrade: bool = True, body: bytes = b"") -> bytes:
    """The bytes of a request; with ``upgrade`` it asks for a raw connection, as docker does."""
    lines = [f"{method} {path} HTTP/1.1", "Host: docker", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read status and headers."""
    text = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = text.strip().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def unframe(data: bytes) -> list[tuple[int, bytes]]:
    """Split a multiplexed stream into its frames."""
    frames = []
    while data:
        length = int.from_bytes(data[4:8], "big")
        frames.append((data[0], data[8 : 8 + length]))
        data = data[8 + length :]
    return frames
