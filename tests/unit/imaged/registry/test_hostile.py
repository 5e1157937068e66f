"""Registries whose certificates are wrong, or that send more than anybody can want."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from imaged.registry.endpoints import RegistryConfig
from imaged.registry.errors import Refusal
from sampan.errors import DataLossError, RemoteError, SampanError
from tests.fakes.registry import FakeRegistry, Fault
from tests.support.certificates import Authority, make_authority
from tests.unit.imaged.parts import Parts, imaged_parts


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.mark.parametrize(
    ("names", "not_after", "signed", "complaint"),
    [
        ("IP:127.0.0.1", "20210101000000Z", True, "x509: certificate has expired"),
        ("DNS:other.example", "", True, "x509: .*not valid for '127.0.0.1'"),
        ("IP:127.0.0.1", "", False, "x509: certificate signed by unknown authority"),
    ],
)
async def test_certificate_that_is_not_accepted_is_told_at_once_with_host_and_reason(
    tmp_path: Path, authority: Authority, names: str, not_after: str, signed: bool, complaint: str
) -> None:
    tls = authority.server(names, not_after=not_after, signed=signed)
    async with FakeRegistry(tls=tls).running() as registry:
        configured = [RegistryConfig(registry.address, ca_file=str(authority.ca))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            with pytest.raises(RemoteError, match=rf'Get "https://{registry.address}/v2/": .*{complaint}'):
                await parts.fetch(f"{registry.address}/x:1")


async def test_blob_from_a_host_with_a_wrong_certificate_is_not_asked_for_again(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        FakeRegistry(tls=authority.server()).running() as registry,
        FakeRegistry(tls=authority.server(signed=False)).running() as storage,
    ):
        registry.add_image("x", "1", b"layer" * 1000)
        location = f"{storage.url}/v2/x/blobs/{registry.largest}"
        registry.faults.append(Fault("/blobs/", times=99, status=307, headers={"Location": location}))
        configured = [RegistryConfig(registry.address, ca_file=str(authority.ca))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            with pytest.raises(RemoteError, match=f"{storage.address}.*unknown authority"):
                await parts.fetch(f"{registry.address}/x:1")
        assert len(registry.paths("/blobs/")) == 1


async def test_blob_is_not_followed_from_https_to_http(tmp_path: Path, authority: Authority) -> None:
    async with FakeRegistry(tls=authority.server()).running() as registry, FakeRegistry().running() as storage:
        registry.add_image("x", "1", b"layer")
        location = {"Location": f"{storage.url}/x"}
        registry.faults.append(Fault("/blobs/", times=99, status=307, headers=location))
        configured = [RegistryConfig(registry.address, ca_file=str(authority.ca))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            with pytest.raises(RemoteError, match="from https to plain http"):
                await parts.fetch(f"{registry.address}/x:1")
        assert storage.requests == []


async def test_token_server_on_plain_http_never_hears_of_a_registry_on_https(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        FakeRegistry(auth="token", tls=authority.server()).running() as registry,
        FakeRegistry().running() as server,
    ):
        registry.realm = f"{server.url}/token"
        configured = [RegistryConfig(registry.address, ca_file=str(authority.ca))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            with pytest.raises(RemoteError, match=f"token server without TLS: .*{server.address}"):
                await parts.fetch(f"{registry.address}/x:1")
        assert server.requests == []


async def test_token_server_on_another_host_is_asked_as_it_is_usual(tmp_path: Path) -> None:
    async with FakeRegistry(auth="token").running() as registry, FakeRegistry().running() as server:
        registry.add_image("x", "1", b"layer")
        registry.realm = f"{server.url}/token"
        async with imaged_parts(tmp_path / "imaged") as parts:
            await parts.fetch(f"{registry.address}/x:1")
        assert (registry.tokens_given, server.tokens_given) == (0, 1)


@asynccontextmanager
async def flood(head: bytes, piece: bytes) -> AsyncIterator[str]:
    """Serve ``head`` and then ``piece`` for ever to whoever connects; yield the address."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            is_tls = await reader.readexactly(1) == b"\x16"
            writer.write(b"" if is_tls else head)
            while not is_tls:
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nX-Header: ", b"x" * 10_000),
        (b"HTTP/1.1 200 ", b"x" * 10_000),
        (b"HTTP/1.1 200 OK\r\nX", b"x" * 10_000),
        (b"HTTP/1.1 200 OK\r\n", b" folded" * 1000),
    ],
)
async def test_head_that_never_ends_is_refused(parts: Parts, head: bytes, piece: bytes) -> None:
    async with flood(head, piece) as address, asyncio.timeout(60):
        with pytest.raises(RemoteError, match=rf'^Get "http://{address}/v2/": .+$'):
            await parts.fetch(f"{address}/x:1")


@pytest.mark.parametrize("path", ["/v2/", "/manifests/", "/token"])
@pytest.mark.parametrize("status", [200, 401, 500])
async def test_document_that_never_ends_is_refused(parts: Parts, path: str, status: int) -> None:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n\r\n".encode()
    async with flood(head, b" " * 65_536) as address, FakeRegistry(auth="token").running() as registry:
        registry.add_image("x", "1", b"layer")
        if path == "/token":
            registry.realm = f"http://{address}/token"
        elif path == "/manifests/":
            registry.auth = ""
            location = {"Location": f"http://{address}/"}
            registry.faults.append(Fault(path, times=99, status=307, headers=location))
        else:
            registry.address = address
        async with asyncio.timeout(60):
            with pytest.raises((SampanError, Refusal)) as caught:
                await parts.fetch(f"{registry.address}/x:1")
        assert len(str(caught.value)) < 500


async def test_blob_that_is_longer_than_announced_is_refused(parts: Parts, registry: FakeRegistry) -> None:
    registry.add_image("x", "1", b"layer" * 1000)
    async with flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536) as address, asyncio.timeout(60):
        location = {"Location": f"http://{address}/"}
        registry.faults.append(Fault(registry.largest, times=99, status=307, headers=location))
        with pytest.raises(DataLossError, match="is longer than the"):
            await parts.fetch(f"{registry.address}/x:1")
    assert parts.leftovers() == []
