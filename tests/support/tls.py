"""Certificates as `sampan system certs` makes them, and a client of TLS that can close one direction alone."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from sampan_cli.commands.setup.certs import CertsOptions, make


@dataclass(frozen=True)
class Certs:
    """An authority, its server and its clients."""

    directory: Path

    def add(self, *clients: str, hosts: tuple[str, ...] = (), days: int = 2) -> None:
        list(make(CertsOptions(self.directory, hosts, clients, (), days)))

    def revoke(self, *clients: str) -> None:
        certs = tuple(self.client(client) / "cert.pem" for client in clients)
        list(make(CertsOptions(self.directory, (), (), certs, 2)))

    def client(self, name: str) -> Path:
        """What DOCKER_CERT_PATH is set to."""
        return self.directory / "clients" / name

    def client_context(self, name: str = "") -> ssl.SSLContext:
        """What a client with or without a certificate needs."""
        context = ssl.create_default_context(cafile=self.directory / "ca.pem")
        if name:
            context.load_cert_chain(self.client(name) / "cert.pem", self.client(name) / "key.pem")
        return context

    def toml(self, *, crl: bool = True, verify: bool = True) -> str:
        """The keys of dockerapi.toml."""
        place = self.directory
        lines = [f'tls_cert = "{place}/server-cert.pem"', f'tls_key = "{place}/server-key.pem"']
        if verify:
            lines.append(f'tls_ca = "{place}/ca.pem"')
            lines += [f'tls_crl = "{place}/crl.pem"'] if crl else []
        else:
            lines.append("tls_verify = false")
        return "\n".join(lines) + "\n"


def make_certs(directory: Path, *clients: str) -> Certs:
    """Make an authority with a server on loopback and ``clients``."""
    certs = Certs(directory)
    certs.add(*clients, hosts=("127.0.0.1", "localhost"))
    return certs


class HalfTls:
    """A connection over TLS whose output can be ended while its input goes on, as Go's ``CloseWrite`` does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self.writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> "HalfTls":
        self = cls(*await asyncio.open_connection("127.0.0.1", port), context)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                await self._flush()
                return self

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def close_output(self) -> None:
        """Send close_notify, and nothing else."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def read(self) -> bytes:
        """Return what there is; empty at the other side's close_notify."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._exchange()

    async def read_all(self) -> bytes:
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    async def _exchange(self) -> None:
        await self._flush()
        data = await self._reader.read(1 << 16)
        if not data:
            raise ConnectionResetError("the connection has ended without close_notify")
        self._incoming.write(data)

    async def _flush(self) -> None:
        self.writer.write(self._outgoing.read())
        await self.writer.drain()
