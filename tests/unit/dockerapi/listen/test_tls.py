"""The Docker API over TLS: who gets in, what a half-close is, and files that change."""

import asyncio
import contextlib
import ssl
import time

import pytest

from dockerapi.http import connection
from dockerapi.listen import tls as tls_module
from tests.contract.archives import tar
from tests.support.tls import HalfTls, make_certs
from tests.unit.dockerapi.listen.conftest import TcpApi
from tests.unit.dockerapi.support import head_of, unframe

PING = head_of("GET", "/_ping", upgrade=False)


async def ask(tls: TcpApi, context: ssl.SSLContext, request: bytes = PING) -> bytes:
    """Return the head of an answer."""
    client = await HalfTls.connect(tls.port, context)
    try:
        await client.write(request)
        return await client.read()
    finally:
        client.writer.close()


async def test_a_client_with_a_certificate_gets_in(tls: TcpApi) -> None:
    assert (await ask(tls, tls.certs.client_context("alice"))).startswith(b"HTTP/1.1 200 OK")


async def test_archives_go_through_tls_as_everything_does(tls: TcpApi) -> None:
    tls.api.fake.runtime.create("sleep", name="web")
    content = tar(f=b"content" * 1000)
    context = tls.certs.client_context("alice")
    head = b"PUT /containers/web/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
    put = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    assert (await ask(tls, context, put)).startswith(b"HTTP/1.1 200 OK")
    client = await HalfTls.connect(tls.port, context)
    try:
        await client.write(b"GET /containers/web/archive?path=/tmp/f HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        read = b""
        while not read.endswith(b"0\r\n\r\n"):
            read += await client.read()
    finally:
        client.writer.close()
    assert read.startswith(b"HTTP/1.1 200 OK")
    assert b"content" * 1000 in read


async def test_a_client_without_a_certificate_does_not(tls: TcpApi) -> None:
    with pytest.raises(ssl.SSLError, match="certificate required"):
        await ask(tls, tls.certs.client_context())


async def test_a_certificate_of_another_authority_does_not(tls: TcpApi) -> None:
    other = make_certs(tls.certs.directory.parent / "other", "mallory")
    context = tls.certs.client_context()
    context.load_cert_chain(other.client("mallory") / "cert.pem", other.client("mallory") / "key.pem")
    with pytest.raises(ssl.SSLError, match=r"unknown ca|decrypt error"):
        await ask(tls, context)


async def test_a_server_s_certificate_is_no_client_s(tls: TcpApi) -> None:
    context = tls.certs.client_context()
    context.load_cert_chain(tls.certs.directory / "server-cert.pem", tls.certs.directory / "server-key.pem")
    with pytest.raises(ssl.SSLError, match="unsupported certificate"):
        await ask(tls, context)


async def test_a_revoked_certificate_is_refused_from_the_next_connection_on(tls: TcpApi) -> None:
    await ask(tls, tls.certs.client_context("bob"))
    tls.certs.revoke("bob")
    with pytest.raises(ssl.SSLError, match="revoked"):
        await ask(tls, tls.certs.client_context("bob"))
    await ask(tls, tls.certs.client_context("alice"))


async def test_plain_http_is_told_to_speak_tls(tls: TcpApi) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", tls.port)
    writer.write(PING)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.0 400 Bad Request")
    assert b"Client sent an HTTP request to an HTTPS server." in answer


async def test_a_file_half_written_keeps_what_was_there_and_a_whole_one_replaces_it(
    tls: TcpApi, capsys: pytest.CaptureFixture[str]
) -> None:
    cert = tls.certs.directory / "server-cert.pem"
    before, key = cert.read_text(), (tls.certs.directory / "server-key.pem").read_text()
    cert.write_text(before[: len(before) // 2])
    await ask(tls, tls.certs.client_context("alice"))
    assert "certificates not reloaded, the former ones stay" in capsys.readouterr().out
    await ask(tls, tls.certs.client_context("alice"))
    assert "not reloaded" not in capsys.readouterr().out  # once for each thing that is wrong
    other = make_certs(tls.certs.directory.parent / "other", "carol")
    for name in ("server-cert.pem", "server-key.pem", "ca.pem", "crl.pem"):
        (tls.certs.directory / name).write_bytes((other.directory / name).read_bytes())
    await ask(tls, other.client_context("carol"))
    assert key != (tls.certs.directory / "server-key.pem").read_text()


async def test_input_ends_with_close_notify_and_output_goes_on(tls: TcpApi) -> None:
    container = tls.api.fake.runtime.create("cat")
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await client.write(head_of("POST", f"/containers/{container}/attach?stream=1&stdin=1&stdout=1"))
    assert (await client.read()).startswith(b"HTTP/1.1 101")
    assert (await tls.api.post(f"/containers/{container}/start")).status == 204
    sent = b"x" * 300_000
    await client.write(sent)
    await client.close_output()
    assert b"".join(data for _, data in unframe(await client.read_all())) == sent
    client.writer.close()


async def test_large_answers_arrive_whole(tls: TcpApi) -> None:
    for _ in range(30):
        tls.api.fake.runtime.create("true")
    request = PING.replace(b"/_ping", b"/containers/json?all=1").replace(
        b"Host: docker", b"Host: docker\r\nConnection: close"
    )
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await client.write(request)
    answer = await client.read_all()
    client.writer.close()
    assert answer.count(b'"Id"') == 30


async def test_handshakes_are_bounded_and_a_client_that_means_it_gets_in(
    tls: TcpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "MAX_HANDSHAKES", 20)
    slow = [await asyncio.open_connection("127.0.0.1", tls.port) for _ in range(50)]
    try:
        await ask(tls, tls.certs.client_context("alice"))
        assert len(tls.listener._pending) <= 20
        ended = [reader.at_eof() or isinstance(reader.exception(), ConnectionError) for reader, _ in slow]
        assert sum(ended) >= 30
    finally:
        for _, writer in slow:
            writer.close()


async def test_a_handshake_has_a_deadline(tls: TcpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    otherwise_s = tls_module.HANDSHAKE_S
    monkeypatch.setattr(tls_module, "HANDSHAKE_S", 0.1)
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", tls.port)
    writer.write(b"\x16\x03\x01")
    assert await reader.read() == b""
    writer.close()
    assert time.monotonic() - begin < otherwise_s


async def test_alpn_offers_h2_to_who_takes_nothing_else(tls: TcpApi) -> None:
    for offered, chosen in ((["h2"], "h2"), (["h2", "http/1.1"], "http/1.1")):
        context = tls.certs.client_context("alice")
        context.set_alpn_protocols(offered)
        client = await HalfTls.connect(tls.port, context)
        assert client._tls.selected_alpn_protocol() == chosen
        client.writer.close()


async def test_over_plain_tcp_a_client_that_has_left_ends_what_follows(plain: tuple[object, int]) -> None:
    _, port = plain
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head_of("GET", "/events", upgrade=False))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write_eof()
    async with asyncio.timeout(60):
        await asyncio.gather(reader.read(), return_exceptions=True)  # until it ends, one way or another
    writer.close()


async def test_a_client_that_says_nothing_has_nobody_listening_and_is_heard_later(tls: TcpApi) -> None:
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await asyncio.sleep(0.05)  # the server is through with the handshake as well
    assert tls.api.server._server.connections == []
    await client.write(PING)
    assert (await client.read()).startswith(b"HTTP/1.1 200 OK")
    client.writer.close()


async def test_a_client_that_says_nothing_is_left_when_the_service_ends(tls: TcpApi) -> None:
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await asyncio.sleep(0.05)
    tls.listener.close()
    async with asyncio.timeout(60):
        assert await client.read() == b""
    client.writer.close()


async def at_rest(tls: TcpApi) -> None:
    """Return once nobody listens at any connection."""
    async with asyncio.timeout(60):
        while tls.api.server._server.connections:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_client_that_was_answered_has_nobody_listening_and_is_heard_later(tls: TcpApi) -> None:
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    for _ in range(3):
        await client.write(PING)
        assert (await client.read()).startswith(b"HTTP/1.1 200 OK")
        await at_rest(tls)
    tls.listener.close()
    async with asyncio.timeout(60):
        assert await client.read() == b""
    client.writer.close()


async def test_a_part_of_the_next_request_is_not_lost(tls: TcpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REST_S", 0.01)
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await client.write(PING + PING[:9])
    assert (await client.read()).startswith(b"HTTP/1.1 200 OK")
    await asyncio.sleep(0.1)
    assert tls.api.server._server.connections
    await client.write(PING[9:])
    assert (await client.read()).startswith(b"HTTP/1.1 200 OK")
    client.writer.close()


@pytest.mark.parametrize("said", [PING, PING[:9], PING + PING[:9]], ids=["all", "a part", "more"])
async def test_a_client_that_says_nothing_more_is_left_in_the_end(
    tls: TcpApi, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connection, "_REST_S", 0.01)
    monkeypatch.setattr(connection, "_KEEPALIVE_S", 0.1)
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    await client.write(said)
    async with asyncio.timeout(60):
        assert (await client.read_all()).count(b"HTTP/1.1 200 OK") == said.startswith(PING)
    client.writer.close()


async def test_each_client_that_leaves_is_told(tls: TcpApi) -> None:
    left = asyncio.Event()
    tls.listener.left = left.set
    client = await HalfTls.connect(tls.port, tls.certs.client_context("alice"))
    client.writer.close()
    async with asyncio.timeout(60):
        await left.wait()


class Sent(asyncio.Transport):
    """A TCP transport that notes what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))


async def test_what_is_sent_is_never_held_in_one_piece(tls: TcpApi) -> None:
    raw, server = Sent(), tls.listener()
    assert isinstance(server, tls_module.TlsConnection)
    server.connection_made(raw)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.certs.client_context("alice").wrap_bio(incoming, outgoing, server_hostname="localhost")
    while not server._admitted:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        server.data_received(outgoing.read())
        incoming.write(b"".join(raw.pieces))
        raw.pieces.clear()
    said = bytes(range(256)) * 4000
    server.write(memoryview(said))
    assert max(map(len, raw.pieces)) < 20_000
    incoming.write(b"".join(raw.pieces))
    heard = b""
    while len(heard) < len(said):
        heard += client.read(1 << 20)
    assert heard == said
    server.connection_lost(None)
