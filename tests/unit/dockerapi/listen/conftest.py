"""A Docker API that is served over TCP, too."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from dockerapi.http.connection import Entrance
from dockerapi.listen.addresses import TcpAddress, TlsFiles
from dockerapi.listen.certificates import Certificates
from dockerapi.listen.sockets import open_tcp
from dockerapi.listen.tls import TlsListener
from tests.support.tls import Certs, make_certs
from tests.unit.dockerapi.support import Api, running_api


@dataclass
class TcpApi:
    """Where it is served, and what with."""

    api: Api
    certs: Certs
    certificates: Certificates
    listener: TlsListener
    port: int


def files_of(certs: Certs) -> TlsFiles:
    place = certs.directory
    cert, key, ca, crl = (str(place / name) for name in ("server-cert.pem", "server-key.pem", "ca.pem", "crl.pem"))
    return TlsFiles(cert, key, ca, crl)


@pytest_asyncio.fixture
async def tls(tmp_path: Path) -> AsyncIterator[TcpApi]:
    """Over TLS with client certificates; the files are the test's own."""
    certs = make_certs(tmp_path / "certs", "alice", "bob")
    async with AsyncExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="api"))
        api = await stack.enter_async_context(running_api(Path(root)))
        files = files_of(certs)
        listener = TlsListener(Certificates(files), api.server.protocols(Entrance("tcp")))
        opened = await open_tcp(TcpAddress("127.0.0.1", 0), files, listener, allow_unauthenticated=False)
        stack.callback(opened.close)
        stack.callback(listener.close)
        port = opened.servers[0].sockets[0].getsockname()[1]
        yield TcpApi(api, certs, listener.certificates, listener, port)


@pytest_asyncio.fixture
async def plain(api: Api) -> AsyncIterator[tuple[Api, int]]:
    """Over plain TCP."""
    make = api.server.protocols(Entrance("tcp"))
    opened = await open_tcp(TcpAddress("127.0.0.1", 0), TlsFiles(), make, allow_unauthenticated=False)
    try:
        yield api, opened.servers[0].sockets[0].getsockname()[1]
    finally:
        opened.close()
