"""Downloads from a server on this host."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from buildd.llb.ops import SourceOp
from buildd.protocol import FileWorker
from buildd.session.clients import Clients
from buildd.session.protocol import SessionInfo
from buildd.source_metadata import Checksum, ChecksumQuery
from buildd.sources import addresses
from buildd.sources.downloads import Downloads
from buildd.sources.http import HttpSource
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
)
from sampan.oci.digest import Digest
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.unit.buildd.sources.clients import FakeContext, FlattenedFiles

MODIFIED = "Fri, 14 Nov 2025 08:00:00 GMT"
MODIFIED_S = 1763107200


class Server:
    """A web server whose pages are functions."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[str, web.Response] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.headers)))
        made = self.pages.get(request.path, web.Response(status=404))
        if request.headers.get("If-None-Match") == made.headers.get("ETag", "none"):
            return web.Response(status=304)
        if request.headers.get("If-Modified-Since") == made.headers.get("Last-Modified", "none"):
            return web.Response(status=304)
        return web.Response(status=made.status, body=cast("bytes", made.body), headers=made.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = FlattenedFiles()
        self.downloads = Downloads(root / "http")
        self.session = FakeSession(SessionInfo("s1"))
        clients = Clients(FakeSessions(self.session))
        (root / "scratch").mkdir()
        self.source = HttpSource(self.downloads, cast("FileWorker", self.files), clients, root / "scratch")

    async def get(self, url: str, **attributes: str) -> dict[str, tuple[bytes, int, int]]:
        op = SourceOp(url, {f"http.{key}": value for key, value in attributes.items()})
        async with FakeContext("s1") as context:
            pinned = await self.source.pin(op, context)
            return self.files.of(await self.source.fetch(op, pinned, context))


@asynccontextmanager
async def closing(world: World) -> AsyncIterator[World]:
    try:
        yield world
    finally:
        await world.downloads.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with closing(World(tmp_path)) as world:
        yield world
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_file_is_its_own_tree(server: Server, world: World) -> None:
    server.pages["/d/x.txt"] = web.Response(body=b"X", headers={"Last-Modified": MODIFIED})
    assert await world.get(f"{server.url}/d/x.txt?a=b") == {"x.txt": (b"X", 0o600, MODIFIED_S)}
    assert await world.get(f"{server.url}/d/x.txt", filename="y", perm="0755") == {"y": (b"X", 0o755, MODIFIED_S)}


async def test_names(server: Server, world: World) -> None:
    server.pages["/"] = web.Response(body=b"X")
    server.pages["/a b"] = web.Response(body=b"X")
    server.pages["/said"] = web.Response(body=b"X", headers={"Content-Disposition": 'attachment; filename="../../n"'})
    assert list(await world.get(f"{server.url}/")) == ["download"]
    assert list(await world.get(f"{server.url}/a%20b")) == ["a b"]
    assert list(await world.get(f"{server.url}/said")) == ["n"]


@pytest.mark.parametrize("header", [{"ETag": '"1"'}, {"Last-Modified": MODIFIED}])
async def test_what_has_not_changed_is_not_sent_again(server: Server, world: World, header: dict[str, str]) -> None:
    server.pages["/x"] = web.Response(body=b"X", headers=header)
    op = SourceOp(f"{server.url}/x")
    async with FakeContext() as context:
        first = await world.source.pin(op, context)
        await world.source.fetch(op, first, context)
        assert len(server.requests) == 1
        assert await world.source.pin(op, context) == first  # known, though not here any more
        assert set(server.requests[1][1]) & {"If-None-Match", "If-Modified-Since"}
        assert world.files.of(await world.source.fetch(op, first, context))["x"][0] == b"X"
        server.pages["/x"] = web.Response(body=b"Y", headers={"ETag": '"2"'})
        assert await world.source.pin(op, context) != first


async def test_a_checksum_needs_no_question_and_is_held_to(server: Server, world: World) -> None:
    server.pages["/x"] = web.Response(body=b"X", headers={"Last-Modified": MODIFIED})
    good, bad = Digest.of(b"X"), Digest.of(b"Y")
    async with FakeContext() as context:
        await world.source.pin(SourceOp(f"{server.url}/x", {"http.checksum": good}), context)
    assert server.requests == []
    assert await world.get(f"{server.url}/x", checksum=good) == {"x": (b"X", 0o600, 0)}
    with pytest.raises(DataLossError, match=f"^digest mismatch {good}: {bad}$"):
        await world.get(f"{server.url}/x", checksum=bad)


async def test_a_signatures_checksum_is_of_the_bytes_and_what_comes_after_them(server: Server, world: World) -> None:
    server.pages["/x"] = web.Response(body=b"X", headers={"ETag": '"1"'})
    op = SourceOp(f"{server.url}/x")
    for _ in range(2):  # the second time the server says that nothing has changed
        async with FakeContext() as context:
            pinned = await world.source.pin(op, context)
            for algorithm in ("sha256", "sha512"):
                made = await world.source.checksum(op, pinned, ChecksumQuery(algorithm, b"end"), context)
                assert made == Checksum(f"{algorithm}:{hashlib.new(algorithm, b'Xend').hexdigest()}", b"end")
    async with FakeContext() as context:
        with pytest.raises(InvalidArgumentError, match="suffix exceeds max size 4096"):
            await world.source.checksum(op, pinned, ChecksumQuery("sha256", bytes(4097)), context)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (403, RemoteError), (500, RemoteError)])
async def test_what_the_server_refuses(server: Server, world: World, status: int, kind: type[SampanError]) -> None:
    server.pages["/x"] = web.Response(status=status)
    with pytest.raises(kind, match=f"^invalid response status {status}$"):
        await world.get(f"{server.url}/x")


async def test_nobody_answers(world: World) -> None:
    with pytest.raises(RemoteError, match="connection refused"):
        await world.get("http://127.0.0.1:1/x")
    with pytest.raises(RemoteError, match="no such host"):
        await world.get("http://does-not-exist.invalid/x")


async def test_a_server_without_tls_is_named_so(server: Server, world: World) -> None:
    url = f"{server.url.replace('http:', 'https:')}/x"
    with pytest.raises(RemoteError, match=f'^Get "{url}": tls: first record does not look like a TLS handshake$'):
        await world.get(url)


async def test_redirects_are_followed_up_to_a_point(server: Server, world: World) -> None:
    server.pages["/a"] = web.Response(status=302, headers={"Location": "/b"})
    server.pages["/b"] = web.Response(status=301, headers={"Location": f"{server.url}/c"})
    server.pages["/c"] = web.Response(body=b"C")
    server.pages["/loop"] = web.Response(status=302, headers={"Location": "/loop"})
    assert await world.get(f"{server.url}/a") == {"a": (b"C", 0o600, 0)}
    with pytest.raises(RemoteError, match="stopped after 10 redirects"):
        await world.get(f"{server.url}/loop")


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
        "ftp://x/y", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_redirects_that_are_never_followed(server: Server, world: World, target: str) -> None:
    server.pages["/x"] = web.Response(status=302, headers={"Location": target})
    with pytest.raises((PermissionDeniedError, InvalidArgumentError)):
        await world.get(f"{server.url}/x")


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/x", "http://10.0.0.1/x", "http://[::1]/x", "http://localhost:1/x"]
)
async def test_a_public_server_leads_to_no_private_one(
    server: Server, world: World, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.url.rpartition(":")[2]
    public = addresses.is_public

    # The first server counts as public.
    async def resolve(self: object, host: str, port: int = 0, family: object = 0) -> list[dict[str, object]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 4}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    seen: list[str] = []

    def is_public(address: str) -> bool:
        seen.append(address)
        return len(seen) == 1 or public(address)

    monkeypatch.setattr(addresses, "is_public", is_public)
    server.pages["/x"] = web.Response(status=302, headers={"Location": target})
    with pytest.raises(PermissionDeniedError, match="leads to an address that a download must not be led to"):
        await world.get(f"http://public.example:{port}/x")
    assert len(server.requests) == 1


async def test_secrets_go_to_their_own_host_alone(server: Server, world: World) -> None:
    world.session.secrets["TOKEN"] = b"Bearer t\n"
    other = server.url.replace("127.0.0.1", "localhost")
    server.pages["/x"] = web.Response(status=302, headers={"Location": f"{other}/y"})
    server.pages["/y"] = web.Response(body=b"Y")
    await world.get(f"{server.url}/x", authheadersecret="TOKEN", **{"header.Accept": "text/x"})
    sent = dict(server.requests)
    assert sent["/x"]["Authorization"] == "Bearer t"
    assert "Authorization" not in sent["/y"]
    assert sent["/y"]["Accept"] == "text/x"


@pytest.mark.parametrize(
    ("url", "attributes"),
    [
        ("http://x/", {"new": "1"}),
        ("http://x/", {"perm": "rw"}),
        ("http://x/", {"header.host": "y"}),
        ("http://x/", {"checksum": "md5:x"}),
        ("http:///x", {}),
        ("http://x:port/", {}),
        ("http://x y/", {}),
    ],
)
async def test_what_cannot_be_is_refused(world: World, url: str, attributes: dict[str, str]) -> None:
    with pytest.raises((InvalidArgumentError, RemoteError)):
        await world.get(url, **attributes)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: x\r\n\r\nshort", "unexpected EOF|not enough data"),
        (b"", ": EOF$"),
        (b"garbage\r\n\r\n", "malformed HTTP response$"),
    ],
)
async def test_an_answer_that_is_none_is_not_kept(world: World, answer: bytes, words: str) -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(short, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x"
    async with listening:
        with pytest.raises(RemoteError, match=words):
            await world.get(url)
    assert world.downloads.known(url, {}) is None


async def test_a_start_removes_what_nobody_needs(server: Server, world: World) -> None:
    for name in ("old", "new"):
        server.pages[f"/{name}"] = web.Response(body=b"X", headers={"ETag": "1"})
        async with FakeContext() as context:
            await world.source.pin(SourceOp(f"{server.url}/{name}"), context)
    old, new = (world.downloads.known(f"{server.url}/{name}", {}) for name in ("old", "new"))
    assert old is not None
    assert new is not None
    new.path.write_bytes(b"X")  # as if the builder had been killed
    os.utime(old.path.with_name("about"), (0, 0))
    world.downloads.recover()
    assert world.downloads.known(f"{server.url}/old", {}) is None
    assert world.downloads.known(f"{server.url}/new", {}) == new
    assert not new.here
    assert (await world.get(f"{server.url}/new"))["new"][0] == b"X"


async def test_the_bytes_of_a_url_that_is_only_pinned_go_with_the_last_build(server: Server, world: World) -> None:
    server.pages["/f"] = web.Response(body=b"X", headers={"ETag": "1"})
    op = SourceOp(f"{server.url}/f")
    async with FakeContext() as one:
        await world.source.pin(op, one)
        found = world.downloads.known(op.identifier, {})
        assert found is not None
        assert found.here
        async with FakeContext() as two:
            await world.source.pin(op, two)
        assert found.here
    assert not found.here
    assert list(found.path.parent.iterdir()) == [found.path.with_name("about")]


async def test_a_download_that_is_cancelled_leaves_no_bytes(world: World) -> None:
    begun = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        await writer.drain()
        begun.set()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(slow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x"
    async with listening:
        running = asyncio.create_task(world.get(url))
        await begun.wait()
        running.cancel()
        await asyncio.wait({running})
    assert [path for path in world.root.rglob("*") if path.is_file()] == []


async def test_what_is_known_of_a_url_is_a_record_that_can_be_removed(server: Server, world: World) -> None:
    server.pages["/x"] = web.Response(body=b"X", headers={"ETag": '"1"'})
    world.downloads.recover()
    url = server.url.replace("//", "//user:password@")
    async with FakeContext("s1") as context:
        op = SourceOp(f"{url}/x?token=secret")
        pinned = await world.source.pin(op, context)
        (record,) = await world.downloads.records()
        assert record.in_use, "its bytes are here for the build"
        assert await world.downloads.remove([record.id]) == []
        await world.source.fetch(op, pinned, context)
    (record,) = await world.downloads.records()
    assert (record.description, record.in_use) == (f"answer of http url {server.url}/x", False)
    assert record.size_bytes > 0
    assert await world.downloads.remove([record.id, "../scratch", "unknown"]) == [record.id]
    assert await world.downloads.records() == []
    assert list((world.root / "http").iterdir()) == []
    await world.get(f"{url}/x?token=secret")
    assert all("If-None-Match" not in headers for _, headers in server.requests)


async def test_download_that_breaks_off_leaves_nothing(world: World) -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        writer.close()

    world.downloads.recover()
    server = await asyncio.start_server(breaks_off, "127.0.0.1", 0)
    async with server:
        with pytest.raises(RemoteError):
            await world.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    assert list((world.root / "http").iterdir()) == []
